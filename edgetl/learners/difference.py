"""Hides how statistics travel to who has similar ones: the few pictures between them, not the whole Gram matrix.

Between two sets of pictures of which r are not in both, the Gram matrices differ by a matrix of rank r at most. Such
a matrix D is given exactly by r of its columns C and the block W where these meet their rows: D = C W^-1 C' (the
skeleton decomposition; Goreinov, Tyrtyshnikov and Zamarashkin 1997). A deployment sends C; the entries are integers,
so rounding gives them back to the bit, and a digest proves it.
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
"""With more pictures than this between them, statistics are sent whole."""

MARGIN = 0.05
"""How far a product may be from an integer here, so that rounding is safe on any processor."""


def difference(old: bytes, new: bytes) -> Optional[bytes]:
    """What turns the statistics `old` into `new`, both as `Statistics.to_bytes` gives them, with a digest of each.

    None where they have another dimension, or are too different for this to pay.

    Raises:
        IntegrityError: one of them is not statistics.
    """
    before, after = Statistics.from_bytes(old).gram, Statistics.from_bytes(new).gram
    if before.shape != after.shape:
        return None
    found = _skeleton((after - before).astype(np.float64))
    stored = _split(new, after)
    if found is None or stored is None:
        return None
    pivots, columns = found
    head, dtype = stored
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


def apply_difference(at_hand: Mapping[str, bytes], packed: bytes) -> dict[str, bytes]:
    """The statistics that a difference leads to, by their SHA-256, from those `at_hand` by theirs.

    Raises:
        IntegrityError: it is not a difference, or not to statistics that are at hand.
    """
    parts = _read(packed)
    start, end = map(str, parts["digests"])
    if start not in at_hand:
        raise IntegrityError("the difference is not to statistics that are here; send the whole bundle: --whole")
    gram = Statistics.from_bytes(at_hand[start]).gram
    pivots, columns = parts["pivots"], parts["columns"].astype(np.float64)
    if columns.shape != (len(gram), len(pivots)) or not np.isin(pivots, np.arange(len(gram))).all():
        raise IntegrityError("the difference is not to statistics of this dimension; send the whole bundle: --whole")
    changed = gram + np.rint(_product(pivots, columns)).astype(np.int64)
    triangle = changed[np.tril_indices(len(gram))].astype(np.dtype(str(parts["dtype"])))
    content = parts["head"].tobytes() + triangle.tobytes()
    if _digest(content) != end:
        raise IntegrityError("the difference does not lead to the statistics that it names; send it whole: --whole")
    return {end: content}


def _skeleton(matrix: NDArray[np.float64]) -> Optional[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Pivots (r,) and integer columns (d, r) of a symmetric integer matrix (d, d); None where r would be too many.

    Pivots are taken by the largest element of the diagonal that remains, as in the pivoted Cholesky decomposition.
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
    """C W^-1 C', (d, d). Raises IntegrityError where W has no inverse."""
    if len(pivots) == 0:
        return np.zeros((len(columns), len(columns)))
    try:
        return np.asarray(columns @ np.linalg.solve(columns[pivots], columns.T))
    except np.linalg.LinAlgError as error:
        raise IntegrityError("the difference has no solution; send the whole bundle: --whole") from error


def _split(content: bytes, gram: NDArray[np.int64]) -> Optional[tuple[bytes, np.dtype[Any]]]:
    """What stands before the Gram matrix's triangle, and the type of its elements."""
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
            raise ValueError(f"its parts are {kinds}")
        if parts["digests"].shape != (2,) or str(parts["dtype"]) not in ("|i1", "<i2", "<i4", "<i8"):
            raise ValueError("its parts have other shapes")
        return parts
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise IntegrityError(f"this is no difference between statistics: {error}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
