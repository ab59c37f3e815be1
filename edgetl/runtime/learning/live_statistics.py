"""Hides how exact statistics follow what is in effect, and how a last layer follows them; the Learner calls it."""

from __future__ import annotations

import io
import itertools
import json
import struct
import tokenize
import zipfile
import zlib
from typing import Any, Callable, Collection, Dict, List, Mapping, Optional, Sequence

import numpy as np

from edgetl.bundle import STATISTICS, Bundle
from edgetl.errors import IntegrityError, LearningError
from edgetl.learners import (
    Adaptation,
    Baseline,
    ConditionWeights,
    Drift,
    LastLayer,
    Statistics,
    Window,
    adapt,
    assess_drift,
    relearn,
    to_grid,
)
from edgetl.runtime.inference.bundle_entries import read_last_layer
from edgetl.runtime.learning.projection import Contents

MOST_JUDGED = 600
"""An adaptation is judged on so many pictures, the newest ones."""

ReadEmbeddings = Callable[[Sequence[int]], Mapping[int, bytes]]
"""Gives the raw embeddings of pictures, by id."""

_ASIDE, _BETWEEN = "\x1f", "\x1e"
"""No label may hold a control character, so these make names in the statistics that no label can meet."""


class Knowledge:
    """The shipped statistics and whatever of a journal is in effect on top of them, exactly.

    A class of the bundle that was forgotten stays in the statistics under a name of its own: its sums alone
    cannot take it out of the Gram matrix. It no longer competes, but the covariance keeps what it showed.
    Not thread-safe.
    """

    def __init__(self, bundle: Bundle, read_embeddings: ReadEmbeddings) -> None:
        self._bundle_path = bundle.path
        self._shipped = bundle.read(STATISTICS)
        self._labels = bundle.manifest.labels
        self._dtype = np.dtype(bundle.manifest.embedding["dtype"])
        self._zero_point = bundle.manifest.embedding["zero_point"]
        self._size = bundle.manifest.embedding["size"]
        self._shipped_layer = read_last_layer(bundle)
        self._parameters = bundle.manifest.last_layer["parameters"]
        if not isinstance(self._parameters, dict):
            raise IntegrityError(f"{bundle.path}: the manifest's parameters of the last layer are no object")
        self._read_embeddings = read_embeddings
        self._supposed: Dict[int, bytes] = {}
        self._unused_ids = itertools.count(-1, -1)
        self._statistics: Optional[Statistics] = None
        self._names: Dict[str, str] = {}
        self._held: Dict[int, str] = {}

    @property
    def shipped_layer(self) -> LastLayer:
        """The bundle's own last layer."""
        return self._shipped_layer

    @property
    def embedding_bytes(self) -> int:
        """What one raw embedding takes."""
        return int(self._size * self._dtype.itemsize)

    def grid(self, raw: np.ndarray) -> np.ndarray:
        """Raw embeddings (d,) or (n, d) on the integer grid."""
        return to_grid(raw, self._zero_point)

    def rows(self, pictures: Sequence[int]) -> np.ndarray:
        """The embeddings (n, d) of pictures on the integer grid."""
        stored = {**self._supposed, **self._read_embeddings([key for key in pictures if key > 0])}
        raw = np.frombuffer(b"".join(stored[picture] for picture in pictures), self._dtype)
        return self.grid(raw.reshape(len(pictures), self._size))

    def encode(self, raw: np.ndarray) -> List[bytes]:
        """The bytes of each of some raw embeddings (d,) or (n, d). Raises LearningError where they do not fit."""
        rows = np.atleast_2d(np.asarray(raw))
        if rows.dtype != self._dtype or rows.ndim != 2 or rows.shape[1] != self._size:
            raise LearningError(
                f"an embedding must be {self._dtype} ({self._size},) as Classifier.embed gives it, "
                f"received {rows.dtype} {np.asarray(raw).shape}"
            )
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise LearningError("an embedding holds NaN or infinity; the model or its file is damaged")
        return [row.tobytes() for row in rows]

    def suppose(self, embeddings: Sequence[Optional[bytes]]) -> List[int]:
        """Makes raw embeddings known that are in no journal, to see what they would do; returns ids for them.

        These are negative, and never given out again, for the statistics may still hold an earlier supposition.
        """
        ids = [next(self._unused_ids) for _ in embeddings]
        self._supposed = {key: data for key, data in self._supposed.items() if key in self._held}
        self._supposed.update({key: data for key, data in zip(ids, embeddings) if data is not None})
        return ids

    def statistics(self, contents: Contents) -> Statistics:
        """The statistics of what is in effect; the caller must not change them."""
        try:
            statistics = self._renamed(contents)
            held, wanted = self._held, contents.pictures
            self._fold(statistics.remove, {key: held[key] for key in held if wanted.get(key) != held[key]})
            self._fold(statistics.add, {key: wanted[key] for key in wanted if held.get(key) != wanted[key]})
        except BaseException:
            self._statistics = None  # half-way; the next one begins again with what was shipped
            raise
        self._held = dict(wanted)
        return statistics

    def last_layer(self, contents: Contents) -> LastLayer:
        """The last layer of what is in effect: the shipped one, or solved anew with its solver and parameters."""
        if contents.is_as_shipped:
            return self._shipped_layer
        return self.solve(self.statistics(contents), contents)

    def solve(self, statistics: Statistics, contents: Contents, without: Collection[int] = ()) -> LastLayer:
        """The last layer of some statistics of what is in effect, for those of its classes that compete.

        `without` are pictures in effect that these statistics do not hold.
        """
        labels = [label for label in contents.labels if label in statistics.labels]
        condition_weights = self._condition_weights(contents, without)
        return relearn(self._shipped_layer, statistics, self._parameters, labels, condition_weights)

    def adapt(self, contents: Contents, leave_old: bool) -> Adaptation:
        """How what was shipped should count beside what was taught, by the newest pictures in effect.

        Raises LearningError where nothing was taught of a shipped class.
        """
        pictures = sorted(contents.pictures)
        older, newest = pictures[:-MOST_JUDGED], pictures[-MOST_JUDGED:]
        statistics = self.statistics(contents).copy()
        statistics.remove(self.rows(older), [contents.pictures[picture] for picture in older])
        labels = [contents.pictures[picture] for picture in newest]
        judged = statistics, self.rows(newest), labels, contents.labels
        in_effect = contents.halvings, contents.spanned
        return adapt(self._shipped_layer.solver, self._parameters, *judged, *in_effect, leave_old)

    def names(self, contents: Contents) -> Dict[str, str]:
        """What the statistics call each class of the bundle; one that was forgotten has a name of its own."""
        if self._statistics is None:
            self._load()
        return _names(tuple(self._names), contents)

    def drift(self, window: Window, contents: Contents, usual: Optional[Baseline]) -> Drift:
        """Whether what was classified of late still looks like what is in effect."""
        return assess_drift(
            window, self.statistics(contents), self._parameters, usual, self._condition_weights(contents, ())
        )

    def usual(self, rest: Statistics, contents: Contents, grid: np.ndarray) -> Baseline:
        """How known pictures look, by embeddings (n, d) on the grid that are in effect, but not in these statistics."""
        layer = self.solve(rest, contents)
        return Baseline.of(layer, rest, self._parameters, grid)

    def _condition_weights(self, contents: Contents, without: Collection[int]) -> Optional[ConditionWeights]:
        adapted = contents.adaptations
        labels = {
            picture: label
            for picture, label in contents.pictures.items()
            if label in adapted and picture not in without
        }
        if not labels:
            return None
        return ConditionWeights.of(self.rows(list(labels)), list(labels.values()), contents.halvings, contents.spanned)

    def _renamed(self, contents: Contents) -> Statistics:
        """Statistics whose shipped classes have the names that they have now."""
        statistics = self._statistics or self._load()
        names = _names(tuple(self._names), contents)
        if names != self._names:
            statistics = self._load()
            _rename_all(statistics, names)
            self._names = names
        return statistics

    def _load(self) -> Statistics:
        statistics = Statistics.from_bytes(self._shipped)
        if statistics.dimension != self._size or not set(self._labels) <= set(statistics.labels):
            raise IntegrityError(f"{self._bundle_path}: its statistics are not those of its classes; build it again")
        self._statistics, self._held = statistics, {}
        self._names = {label: label for label in statistics.labels}
        return statistics

    def _fold(self, apply: Callable[[np.ndarray, Sequence[str]], None], labels: Mapping[int, str]) -> None:
        pictures = list(labels)
        for start in range(0, len(pictures), _PICTURES_AT_ONCE):
            chosen = pictures[start : start + _PICTURES_AT_ONCE]
            apply(self.rows(chosen), [labels[picture] for picture in chosen])


def pack_layer(layer: LastLayer) -> bytes:
    """A last layer as bytes for the device's own use."""
    stream = io.BytesIO()
    header = json.dumps({"labels": layer.labels, "solver": layer.solver})
    arrays: Dict[str, Any] = {"header": np.frombuffer(header.encode(), np.uint8), **layer.to_arrays()}
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpack_layer(data: bytes) -> LastLayer:
    """The inverse of `pack_layer`. Raises IntegrityError on anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes())
        return LastLayer.from_arrays(arrays, header["labels"], header["solver"])
    except _LOADING_ERRORS as error:
        raise IntegrityError(f"the stored last layer is damaged: {error}") from error


_LOADING_ERRORS = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    SyntaxError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy's reader has been seen to raise on damaged files."""
_PICTURES_AT_ONCE = 1024


def _rename_all(statistics: Statistics, names: Mapping[str, str]) -> None:
    """Renames at once, so that labels may also change places."""
    changed = {old: new for old, new in names.items() if old != new}
    for number, old in enumerate(changed):
        statistics.rename(old, f"{_BETWEEN}{number}")
    for number, new in enumerate(changed.values()):
        statistics.rename(f"{_BETWEEN}{number}", new)


def _names(classes: Sequence[str], contents: Contents) -> Dict[str, str]:
    """What each class of the shipped statistics is called now; the forgotten ones get names of their own."""
    names: Dict[str, str] = {}
    taken = set(classes)
    for name in classes:
        label = contents.shipped.get(name, name)
        if label is None:
            label = f"{_ASIDE}{name}"
            while label in taken:
                label = f"{_ASIDE}{label}"
        names[name] = label
    return names
