"""Encodes how statistics differ from similar ones by a few columns instead of the whole Gram matrix.

If r pictures are in only one of two sets, the Gram matrices of the sets differ by a matrix D of rank r at most. D is
given exactly by r of its columns C and the block W in which these columns meet the rows of the same indices:
D = C W^-1 C' (the skeleton decomposition; Goreinov, Tyrtyshnikov and Zamarashkin 1997). A deployment sends C. The
entries are integers, so rounding restores them exactly, and a digest verifies the result.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import IntegrityError
from edgetl.learners.statistics import Statistics

RANK_LIMIT = 128
"""The largest rank that is encoded; statistics that differ more are sent whole."""

MARGIN = 0.05
"""How far a product may be from an integer on the host, so that rounding is safe on any processor."""


def encode_difference(old: bytes, new: bytes) -> Optional[bytes]:
    """Encode what turns the statistics `old` into `new`, both in the form of `Statistics.to_bytes`.

    None if their dimensions differ, or if they differ too much for this to be smaller than `new`.

    Raises:
        IntegrityError: `old` or `new` is not statistics.
    """
    before, after = Statistics.from_bytes(old).gram, Statistics.from_bytes(new).gram
    if before.shape != after.shape:
        return None
    skeleton = _skeleton((after - before).astype(np.float64))
    split = _split(new, after)
    if skeleton is None or split is None:
        return None
    pivots, columns = skeleton
    head, dtype = split
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        digests=np.array([_digest(old), _digest(new)]),
        head=np.frombuffer(head, np.uint8),
        dtype=np.array(dtype.str),
        pivots=pivots,
        columns=columns.astype(np.min_scalar_type(-int(np.abs(columns).max(initial=1)))),
    )
    packed = stream.getvalue()
    return packed if apply_difference({_digest(old): old}, packed) == {_digest(new): new} else None


def apply_difference(available: Mapping[str, bytes], packed: bytes) -> dict[str, bytes]:
    """Restore statistics from a difference and those it starts from.

    Args:
        available: statistics in the form of `Statistics.to_bytes`, by SHA-256.
        packed: what `encode_difference` returned.

    Returns:
        The restored statistics, by SHA-256.

    Raises:
        IntegrityError: `packed` is not a difference, or the statistics that it starts from are not available.
    """
    parts = _read(packed)
    start, end = map(str, parts["digests"])
    if start not in available:
        raise IntegrityError("the difference starts from statistics that are not here; send the bundle whole: --whole")
    gram = Statistics.from_bytes(available[start]).gram
    pivots, columns = parts["pivots"], parts["columns"].astype(np.float64)
    if columns.shape != (len(gram), len(pivots)) or not np.isin(pivots, np.arange(len(gram))).all():
        raise IntegrityError("the difference is for statistics of another dimension; send the bundle whole: --whole")
    changed = gram + np.rint(_product(pivots, columns)).astype(np.int64)
    triangle = changed[np.tril_indices(len(gram))].astype(np.dtype(str(parts["dtype"])))
    content = parts["head"].tobytes() + triangle.tobytes()
    if _digest(content) != end:
        raise IntegrityError("the difference does not lead to the statistics it names; send the bundle whole: --whole")
    return {end: content}


def _skeleton(matrix: NDArray[np.float64]) -> Optional[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Pivots (r,) and integer columns (d, r) of a symmetric integer matrix (d, d); None if r exceeds RANK_LIMIT.

    Each pivot is the largest remaining element of the diagonal, as in the pivoted Cholesky decomposition.
    """
    pivots: list[int] = []
    rest = matrix.copy()
    while np.abs(rest).max(initial=0) > 0.5:
        pivot = int(np.abs(rest.diagonal()).argmax())
        if len(pivots) == RANK_LIMIT or abs(rest[pivot, pivot]) <= 0.5:
            return None
        rest -= np.outer(rest[:, pivot], rest[pivot] / rest[pivot, pivot])
        pivots.append(pivot)
    columns = matrix[:, pivots]
    if np.abs(_product(np.array(pivots, np.int32), columns) - matrix).max(initial=0) > MARGIN:
        return None
    return np.array(pivots, np.int32), columns.astype(np.int64)


def _product(pivots: NDArray[np.int32], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """C W^-1 C', (d, d). Raises IntegrityError if W is singular."""
    if len(pivots) == 0:
        return np.zeros((len(columns), len(columns)))
    try:
        return np.asarray(columns @ np.linalg.solve(columns[pivots], columns.T))
    except np.linalg.LinAlgError as error:
        raise IntegrityError("the difference has no solution; send the bundle whole: --whole") from error


def _split(content: bytes, gram: NDArray[np.int64]) -> Optional[tuple[bytes, np.dtype[Any]]]:
    """The bytes before the Gram matrix's triangle, and the dtype of the triangle."""
    triangle = gram[np.tril_indices(len(gram))]
    for dtype in (np.dtype(f"<i{width}") for width in (1, 2, 4, 8)):
        stored = triangle.astype(dtype)
        if np.array_equal(stored, triangle) and content.endswith(stored.tobytes()):
            return content[: len(content) - stored.nbytes], dtype
    return None


def _read(packed: bytes) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            parts = {name: stored[name] for name in ("digests", "head", "dtype", "pivots", "columns")}
        kinds = {name: part.dtype.kind + str(part.ndim) for name, part in parts.items()}
        if kinds != {"digests": "U1", "head": "u1", "dtype": "U0", "pivots": "i1", "columns": "i2"}:
            raise ValueError(f"its arrays have kinds {kinds}")
        if parts["digests"].shape != (2,) or str(parts["dtype"]) not in ("|i1", "<i2", "<i4", "<i8"):
            raise ValueError("its arrays have unexpected shapes")
        return parts
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise IntegrityError(f"this is not a difference between statistics: {error}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
