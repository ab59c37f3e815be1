"""Keeps exact statistics in step with a projection of the journal, and solves last layers from them."""

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
from edgetl.runtime.learning.projection import Projection

MAX_ADAPT_PICTURES = 600
"""The number of pictures, the newest ones, that an adaptation is chosen on."""

ReadEmbeddings = Callable[[Sequence[int]], Mapping[int, bytes]]
"""Returns the raw embeddings of pictures, by id."""

_FORGOTTEN, _RENAMING = "\x1f", "\x1e"
"""Prefixes of names in the statistics. Labels have no control characters, so no label can be equal to such a name."""


class LiveStatistics:
    """The shipped statistics plus the pictures in effect, exactly. Not thread-safe.

    A class of the bundle that is forgotten stays in the statistics under a reserved name, because its sum alone is
    not enough to subtract it from the Gram matrix. It no longer competes, but still contributes to the covariance.

    Args:
        bundle: gives the shipped statistics and last layer.
        read_embeddings: reads embeddings from the journal.

    Raises:
        BundleError: the bundle has no statistics.
        IntegrityError: an entry of the bundle is invalid.
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
            raise IntegrityError(f"{bundle.path}: the last layer's parameters in the manifest are not an object")
        self._read_embeddings = read_embeddings
        self._hypothetical: Dict[int, bytes] = {}
        self._unused_ids = itertools.count(-1, -1)
        self._statistics: Optional[Statistics] = None
        self._names: Dict[str, str] = {}
        """By class of the shipped statistics, its present name there."""
        self._included: Dict[int, str] = {}
        """By id, the label of each picture that the statistics include."""

    @property
    def shipped_layer(self) -> LastLayer:
        """The bundle's own last layer."""
        return self._shipped_layer

    @property
    def embedding_bytes(self) -> int:
        """The size of one raw embedding."""
        return int(self._size * self._dtype.itemsize)

    def to_fixed_point(self, raw: np.ndarray) -> np.ndarray:
        """Convert raw embeddings (d,) or (n, d) to fixed point, int16."""
        return to_grid(raw, self._zero_point)

    def rows(self, pictures: Sequence[int]) -> np.ndarray:
        """Return the fixed-point embeddings (n, d) int16 of n pictures, by their ids."""
        stored = {**self._hypothetical, **self._read_embeddings([key for key in pictures if key > 0])}
        raw = np.frombuffer(b"".join(stored[picture] for picture in pictures), self._dtype)
        return self.to_fixed_point(raw.reshape(len(pictures), self._size))

    def encode(self, raw: np.ndarray) -> List[bytes]:
        """Return the bytes of each raw embedding, from (d,) or (n, d).

        Raises:
            LearningError: another dtype or shape, NaN or infinity.
        """
        rows = np.atleast_2d(np.asarray(raw))
        if rows.dtype != self._dtype or rows.ndim != 2 or rows.shape[1] != self._size:
            raise LearningError(
                f"an embedding must be {self._dtype} ({self._size},) as returned by Classifier.embed, "
                f"received {rows.dtype} {np.asarray(raw).shape}"
            )
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise LearningError("an embedding contains NaN or infinity; the model or its file is damaged")
        return [row.tobytes() for row in rows]

    def add_hypothetical(self, embeddings: Sequence[Optional[bytes]]) -> List[int]:
        """Add raw embeddings that are in no journal, to predict their effect; return ids for them.

        These ids are negative, and never used again, because the statistics may still include earlier ones.
        """
        ids = [next(self._unused_ids) for _ in embeddings]
        self._hypothetical = {key: data for key, data in self._hypothetical.items() if key in self._included}
        self._hypothetical.update({key: data for key, data in zip(ids, embeddings) if data is not None})
        return ids

    def statistics(self, projection: Projection) -> Statistics:
        """Return the statistics of what is in effect. The caller must not change them."""
        try:
            statistics = self._renamed(projection)
            included, wanted = self._included, projection.pictures
            removed = {key: included[key] for key in included if wanted.get(key) != included[key]}
            added = {key: wanted[key] for key in wanted if included.get(key) != wanted[key]}
            self._apply(statistics.remove, removed)
            self._apply(statistics.add, added)
        except BaseException:
            self._statistics = None  # partly updated: the next call starts again from the shipped statistics
            raise
        self._included = dict(wanted)
        return statistics

    def last_layer(self, projection: Projection) -> LastLayer:
        """Return the last layer of what is in effect: the shipped one, or solved again by the same solver."""
        if projection.is_as_shipped:
            return self._shipped_layer
        return self.solve(self.statistics(projection), projection)

    def solve(self, statistics: Statistics, projection: Projection, without: Collection[int] = ()) -> LastLayer:
        """Solve the last layer from statistics of what is in effect, for those classes in effect that they contain.

        `without` are the pictures in effect that these statistics do not include.
        """
        labels = [label for label in projection.labels if label in statistics.labels]
        condition_weights = self._condition_weights(projection, without)
        return relearn(self._shipped_layer, statistics, self._parameters, labels, condition_weights)

    def adapt(self, projection: Projection, leave_old: bool) -> Adaptation:
        """Choose how shipped pictures count beside taught ones, on the newest pictures in effect.

        Raises:
            LearningError: no shipped class was taught.
        """
        pictures = sorted(projection.pictures)
        older, newest = pictures[:-MAX_ADAPT_PICTURES], pictures[-MAX_ADAPT_PICTURES:]
        statistics = self.statistics(projection).copy()
        statistics.remove(self.rows(older), [projection.pictures[picture] for picture in older])
        return adapt(
            self._shipped_layer.solver,
            self._parameters,
            statistics,
            self.rows(newest),
            [projection.pictures[picture] for picture in newest],
            projection.labels,
            projection.halvings,
            projection.spanned,
            leave_old,
        )

    def names(self, projection: Projection) -> Dict[str, str]:
        """Return the name in the statistics of each class of the bundle; a forgotten class has a reserved one."""
        if self._statistics is None:
            self._load()
        return _names(tuple(self._names), projection)

    def drift(self, window: Window, projection: Projection, baseline: Optional[Baseline]) -> Drift:
        """Return whether recently classified pictures still look like those in effect."""
        condition_weights = self._condition_weights(projection, ())
        return assess_drift(window, self.statistics(projection), self._parameters, baseline, condition_weights)

    def baseline(self, rest: Statistics, projection: Projection, rows: np.ndarray) -> Baseline:
        """Return the usual drift signals of known fixed-point embeddings (n, d) that `rest` does not include."""
        return Baseline.of(self.solve(rest, projection), rest, self._parameters, rows)

    def _condition_weights(self, projection: Projection, without: Collection[int]) -> Optional[ConditionWeights]:
        adapted = projection.adaptations
        labels = {
            picture: label
            for picture, label in projection.pictures.items()
            if label in adapted and picture not in without
        }
        if not labels:
            return None
        rows = self.rows(list(labels))
        return ConditionWeights.of(rows, list(labels.values()), projection.halvings, projection.spanned)

    def _renamed(self, projection: Projection) -> Statistics:
        """The statistics, with each shipped class under its present name."""
        statistics = self._statistics or self._load()
        names = _names(tuple(self._names), projection)
        if names != self._names:
            statistics = self._load()
            _rename_all(statistics, names)
            self._names = names
        return statistics

    def _load(self) -> Statistics:
        statistics = Statistics.from_bytes(self._shipped)
        if statistics.dimension != self._size or not set(self._labels) <= set(statistics.labels):
            raise IntegrityError(f"{self._bundle_path}: its statistics do not match its classes; build it again")
        self._statistics, self._included = statistics, {}
        self._names = {label: label for label in statistics.labels}
        return statistics

    def _apply(self, operation: Callable[[np.ndarray, Sequence[str]], None], labels: Mapping[int, str]) -> None:
        """Call `Statistics.add` or `remove` with pictures, by id, and their labels."""
        pictures = list(labels)
        for start in range(0, len(pictures), _PICTURES_AT_ONCE):
            chosen = pictures[start : start + _PICTURES_AT_ONCE]
            operation(self.rows(chosen), [labels[picture] for picture in chosen])


def pack_layer(layer: LastLayer) -> bytes:
    """Serialise a last layer for the device's own use."""
    stream = io.BytesIO()
    header = json.dumps({"labels": layer.labels, "solver": layer.solver})
    arrays: Dict[str, Any] = {"header": np.frombuffer(header.encode(), np.uint8), **layer.to_arrays()}
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpack_layer(data: bytes) -> LastLayer:
    """Read a last layer in the form of `pack_layer`.

    Raises:
        IntegrityError: the data has another form.
    """
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
"""The errors that numpy's reader raises on damaged files."""
_PICTURES_AT_ONCE = 1024


def _rename_all(statistics: Statistics, names: Mapping[str, str]) -> None:
    """Rename all classes together, so that two classes may also exchange their names."""
    changed = {old: new for old, new in names.items() if old != new}
    for number, old in enumerate(changed):
        statistics.rename(old, f"{_RENAMING}{number}")
    for number, new in enumerate(changed.values()):
        statistics.rename(f"{_RENAMING}{number}", new)


def _names(classes: Sequence[str], projection: Projection) -> Dict[str, str]:
    """The present name of each class of the shipped statistics; a forgotten class gets a reserved name."""
    names: Dict[str, str] = {}
    taken = set(classes)
    for name in classes:
        label = projection.shipped.get(name, name)
        if label is None:
            label = f"{_FORGOTTEN}{name}"
            while label in taken:
                label = f"{_FORGOTTEN}{label}"
        names[name] = label
    return names
