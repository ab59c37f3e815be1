"""Reads photos in threads: each photo is opened once, decoded, and embedded."""

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
from edgetl.data.reading.regular_file import read_regular_file
from edgetl.data.reading.workers import run_workers
from edgetl.errors import ImageError
from edgetl.progress import Progress
from edgetl.runtime import Embedder, Preprocess, interpreters

BLANK_RANGE = 8
"""An image is blank if each channel spans at most this many of 256 levels (JPEG noise spans less)."""


class Fault(NamedTuple):
    """Why a photo cannot be used: the kind of the finding, and a line for people."""

    kind: str
    detail: str


@dataclass(frozen=True)
class ReadPhotos:
    """What is known about each photo after the pass, a row per path; rows with a fault are empty."""

    digests: list[bytes]
    """SHA-256 of each file."""
    traits: list[Optional[Traits]]
    embeddings: Optional[np.ndarray]
    """Raw embeddings (n, d), if there was an embedder."""
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
) -> ReadPhotos:
    """Reads every photo, opening only those that are not in the cache, and stores their frames in `frames`.

    Results are in the cache even if this is interrupted. `progress` receives ("read photos", done, total).

    Raises:
        StorageError: the disk is full.
    """
    if embedder is not None:
        cache.use(embedder_key(embedder))
    photo_pass = _Pass(paths, cache, preprocess, embedder, frames)
    missing = [index for index in range(len(paths)) if not photo_pass.fill_from_cache(index)]
    done = len(paths) - len(missing)
    report = progress or _no_progress
    report("read photos", done, len(paths))
    for results in run_workers(missing, photo_pass.start_worker, workers) if missing else ():
        photo_pass.store(results)
        done += len(results)
        report("read photos", done, len(paths))
    return photo_pass.read


class _Result(NamedTuple):
    """What a worker found out about one photo."""

    row: int
    record: Optional[Record] = None
    fault: Optional[Fault] = None
    frame: Optional[np.ndarray] = None
    """The frame, until it is embedded."""
    computed: bool = False
    """Whether the record's embedding is new."""


class _Pass:
    """One pass. `fill_from_cache` and `store` run in the calling thread, the functions of `start_worker` in threads."""

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
        self.read = ReadPhotos([b""] * len(paths), [None] * len(paths), rows, {}, [])

    def fill_from_cache(self, index: int) -> bool:
        """Fills a row from the cache; returns False if the photo must be read."""
        try:
            stamp = stamp_of(self._paths[index])
        except OSError:
            return False
        digest = self._cache.digest(stamp)
        record = digest and self._cached(self._cache, stamp, digest)
        if record:
            self._fill(index, record)
        return bool(record)

    def store(self, results: Sequence[_Result]) -> None:
        """Fills rows with the results of a worker, and stores them in the cache."""
        for result in results:
            if result.record:
                self._fill(result.row, result.record)
            if result.fault:
                self.read.faults[result.row] = result.fault
            if result.computed:
                self.read.embedded.append(result.row)
        records = [result.record for result in results if result.record]
        self._cache.store(records, self._frame_key, self._embedder_key)

    @contextlib.contextmanager
    def start_worker(self) -> Iterator[Callable[[Sequence[int]], list[_Result]]]:
        """Yields the function that reads a batch of photos, then embeds them."""
        with contextlib.closing(self._cache.reader()) as cache:
            yield lambda batch: [self._embed(result) for result in [self._read(index, cache) for index in batch]]

    def _read(self, index: int, cache: CacheReader) -> _Result:
        try:
            stamp = stamp_of(self._paths[index])
            data = read_regular_file(self._paths[index])
        except OSError as error:
            return _Result(index, fault=Fault("unreadable", (error.strerror or str(error)).lower()))
        except ImageError as error:
            return _Result(index, fault=Fault("unreadable", str(error)))
        digest = hashlib.sha256(data).digest()
        if cached := self._cached(cache, stamp, digest):
            return _Result(index, cached)
        header = _header(data)
        try:
            image = self._preprocess.decode(data)
        except ImageError as error:
            return _Result(index, fault=Fault("truncated" if header else "unreadable", str(error)))
        header = header or _Header(image.size, image.mode, False, 1)
        return _Result(index, Record(stamp, digest, _traits(header, image), None), frame=self._frame(index, image))

    def _frame(self, index: int, image: Image.Image) -> Optional[np.ndarray]:
        if self._embedder is None and self._frames is None:
            return None
        frame: np.ndarray = self._preprocess.apply(image)
        if self._frames is not None:
            self._frames.put(index, frame)
        return frame

    def _embed(self, result: _Result) -> _Result:
        if self._embedder is None or result.record is None or result.frame is None:
            return result._replace(frame=None)
        embedding = self._embedder.embed(result.frame).tobytes()
        return result._replace(record=result.record._replace(embedding=embedding), frame=None, computed=True)

    def _cached(self, cache: CacheReader, stamp: Stamp, digest: bytes) -> Optional[Record]:
        traits = cache.traits(digest, self._frame_key)
        if traits is None or self._embedder_key is None:
            return traits and Record(stamp, digest, traits, None)
        embedding = cache.embedding(digest, self._embedder_key, self._embedding_bytes)
        return None if embedding is None else Record(stamp, digest, traits, embedding)

    def _fill(self, index: int, record: Record) -> None:
        self.read.digests[index] = record.digest
        self.read.traits[index] = record.traits
        if self.read.embeddings is not None and record.embedding is not None:
            self.read.embeddings[index] = np.frombuffer(record.embedding, self.read.embeddings.dtype)


def frame_key(preprocess: Preprocess) -> bytes:
    """Identifies everything that a frame depends on besides the photo, 16 bytes."""
    return _key("frame", preprocess.to_dict(), PIL.__version__)


def embedder_key(embedder: Embedder) -> bytes:
    """Identifies everything that an embedding depends on besides the photo, 16 bytes."""
    return _key("embedding", embedder.preprocess.to_dict(), PIL.__version__, embedder.digest, interpreters()[0])


def _key(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()[:16]


def _no_progress(_task: str, _done: int, _total: int) -> None:
    pass


class _Header(NamedTuple):
    size: tuple[int, int]
    mode: str
    transparent: bool
    orientation: int


_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


def _header(data: bytes) -> Optional[_Header]:
    """The header of an image file; None if the file is not an image."""
    with contextlib.suppress(Exception), Image.open(BytesIO(data)) as image:
        return _Header(image.size, image.mode, "transparency" in image.info, _orientation(image))
    return None


def _orientation(image: Image.Image) -> int:
    with contextlib.suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _traits(header: _Header, image: Image.Image) -> Traits:
    width, height = header.size[::-1] if header.orientation in _QUARTER_TURNS else header.size
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
    return all(high - low <= BLANK_RANGE for low, high in ranges)
