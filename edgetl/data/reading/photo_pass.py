"""Hides the one pass over the photos, in which threads read, check and embed each; the loader calls it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import PIL
from PIL import Image

from edgetl.data.reading.cache import THUMBNAIL_SIDE, Cache, CacheReader, Record, Stamp, Traits, stamp_of
from edgetl.data.reading.frames import FrameStore
from edgetl.data.reading.workers import work
from edgetl.errors import ImageError
from edgetl.progress import Progress
from edgetl.runtime import Embedder, Preprocess, decode, interpreters

FILE_LIMIT_BYTES = 512 * 1024 * 1024
"""A larger file is not read: it would lie in memory as a whole."""

BLANK_RANGE = 8
"""An image whose channels all span at most so many of 256 levels shows nothing (JPEG noise stays below)."""


class Fault(NamedTuple):
    """Why a photo cannot be used: `kind` is that of the finding, `detail` a line for people."""

    kind: str
    detail: str


@dataclass(frozen=True)
class Reading:
    """What the pass found, row by row as the photos were listed; rows with a fault are empty."""

    digests: list[bytes]
    """SHA-256 of each file."""
    traits: list[Optional[Traits]]
    embeddings: Optional[np.ndarray]
    """Raw embeddings (n, d)."""
    faults: dict[int, Fault]
    embedded: list[int]
    """Rows whose embedding was computed by this pass."""


def read_photos(
    paths: Sequence[Path],
    cache: Cache,
    preprocess: Preprocess,
    embedder: Optional[Embedder],
    frames: Optional[FrameStore],
    workers: Optional[int],
    progress: Optional[Progress],
) -> Reading:
    """Looks at every photo, opening only those that the cache does not know; fills `frames` on the way.

    What is done is in the cache even when this is interrupted. Raises StorageError where the disk is full.
    """
    if embedder is not None:
        cache.use(embedder_key(embedder))
    one_pass = _Pass(paths, cache, preprocess, embedder, frames)
    unknown = [index for index in range(len(paths)) if not one_pass.recall(index)]
    done = len(paths) - len(unknown)
    report = progress or _silent
    report("read photos", done, len(paths))
    for lot in work(unknown, one_pass.equip, workers) if unknown else ():
        one_pass.keep(lot)
        done += len(lot)
        report("read photos", done, len(paths))
    return one_pass.reading


class _Result(NamedTuple):
    row: int
    record: Optional[Record] = None
    fault: Optional[Fault] = None
    frame: Optional[np.ndarray] = None
    """Waits to be embedded."""
    computed: bool = False
    """Whether the record's embedding is new."""


class _Pass:
    """One pass: `recall` and `keep` run in the caller's thread, what `equip` gives in the workers'."""

    def __init__(
        self,
        paths: Sequence[Path],
        cache: Cache,
        preprocess: Preprocess,
        embedder: Optional[Embedder],
        frames: Optional[FrameStore],
    ) -> None:
        self._paths, self._cache, self._preprocess = paths, cache, preprocess
        self._embedder, self._frames = embedder, frames
        self._frame_key = frame_key(preprocess)
        self._embedder_key = None if embedder is None else embedder_key(embedder)
        rows = None if embedder is None else np.zeros((len(paths), embedder.dimension), embedder.dtype)
        self._embedding_bytes = 0 if rows is None else rows[:1].nbytes
        self.reading = Reading([b""] * len(paths), [None] * len(paths), rows, {}, [])

    def recall(self, index: int) -> bool:
        """Fills a row from the cache alone; False where the photo has to be read."""
        try:
            stamp = stamp_of(self._paths[index])
        except OSError:
            return False
        digest = self._cache.digest(stamp)
        record = digest and self._known(self._cache, stamp, digest)
        if record:
            self._fill(index, record)
        return bool(record)

    def keep(self, lot: Sequence[_Result]) -> None:
        """Fills rows with what a worker found, and gives it to the cache."""
        for result in lot:
            if result.record:
                self._fill(result.row, result.record)
            if result.fault:
                self.reading.faults[result.row] = result.fault
            if result.computed:
                self.reading.embedded.append(result.row)
        records = [result.record for result in lot if result.record]
        self._cache.store(records, self._frame_key, self._embedder_key)

    @contextlib.contextmanager
    def equip(self) -> Iterator[Callable[[Sequence[int]], list[_Result]]]:
        """The function by which one worker reads photos: first all of a batch, then it embeds them."""
        with contextlib.closing(self._cache.reader()) as cache:
            yield lambda batch: [self._embed(result) for result in [self._read(index, cache) for index in batch]]

    def _read(self, index: int, cache: CacheReader) -> _Result:
        try:
            stamp = stamp_of(self._paths[index])
            data = _contents(self._paths[index], stamp.size)
        except OSError as error:
            return _Result(index, fault=Fault("unreadable", (error.strerror or str(error)).lower()))
        except ImageError as error:
            return _Result(index, fault=Fault("unreadable", str(error)))
        digest = hashlib.sha256(data).digest()
        if known := self._known(cache, stamp, digest):
            return _Result(index, known)
        header = _header(data)
        try:
            image = decode(data, size_hint=self._preprocess.size)
        except ImageError as error:
            return _Result(index, fault=Fault("truncated" if header else "unreadable", str(error)))
        header = header or _Header(image.size, image.mode, False, 1)
        return _Result(index, Record(stamp, digest, _traits(header, image), None), frame=self._frame(index, image))

    def _frame(self, index: int, image: Image.Image) -> Optional[np.ndarray]:
        if self._embedder is None and self._frames is None:
            return None
        frame = self._preprocess.apply(image)
        if self._frames is not None:
            self._frames.put(index, frame)
        return frame

    def _embed(self, result: _Result) -> _Result:
        if self._embedder is None or result.record is None or result.frame is None:
            return result._replace(frame=None)
        embedding = self._embedder.embed(result.frame).tobytes()
        return result._replace(record=result.record._replace(embedding=embedding), frame=None, computed=True)

    def _known(self, cache: CacheReader, stamp: Stamp, digest: bytes) -> Optional[Record]:
        traits = cache.traits(digest, self._frame_key)
        if traits is None or self._embedder_key is None:
            return traits and Record(stamp, digest, traits, None)
        embedding = cache.embedding(digest, self._embedder_key, self._embedding_bytes)
        return None if embedding is None else Record(stamp, digest, traits, embedding)

    def _fill(self, index: int, record: Record) -> None:
        self.reading.digests[index] = record.digest
        self.reading.traits[index] = record.traits
        if self.reading.embeddings is not None and record.embedding is not None:
            self.reading.embeddings[index] = np.frombuffer(record.embedding, self.reading.embeddings.dtype)


def frame_key(preprocess: Preprocess) -> bytes:
    """What a frame's pixels depend on besides the photo."""
    return _key("frame", preprocess.to_dict(), PIL.__version__)


def embedder_key(embedder: Embedder) -> bytes:
    """What an embedding depends on besides the photo."""
    return _key("embedding", embedder.preprocess.to_dict(), PIL.__version__, embedder.digest, interpreters()[0])


def _key(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()[:16]


def _silent(_task: str, _done: int, _total: int) -> None:
    pass


def _contents(path: Path, size: int) -> bytes:
    if size > FILE_LIMIT_BYTES:
        raise ImageError(f"it has {size} bytes, more than {FILE_LIMIT_BYTES}; scale it down first")
    return path.read_bytes()


class _Header(NamedTuple):
    size: tuple[int, int]
    mode: str
    transparent: bool
    orientation: int


_ORIENTATION = 0x0112
_TURNED_BY_90 = (5, 6, 7, 8)


def _header(data: bytes) -> Optional[_Header]:
    """What the file says of itself; None where it is no image."""
    with contextlib.suppress(Exception), Image.open(BytesIO(data)) as image:
        return _Header(image.size, image.mode, "transparency" in image.info, _orientation(image))
    return None


def _orientation(image: Image.Image) -> int:
    with contextlib.suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _traits(header: _Header, image: Image.Image) -> Traits:
    width, height = header.size[::-1] if header.orientation in _TURNED_BY_90 else header.size
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = image.resize(side, Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    return Traits(
        width,
        height,
        rotated=header.orientation in range(2, 9),
        grey=header.mode[0] in "1LIF",
        alpha=header.transparent or header.mode in ("RGBA", "RGBa", "LA", "La", "PA"),
        blank=_is_blank(small) and _is_blank(image),
        thumbnail=small.tobytes(),
    )


def _is_blank(image: Image.Image) -> bool:
    extrema = image.getextrema()
    ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(high - low <= BLANK_RANGE for low, high in ranges)  # type: ignore[misc]
