"""Hides how a backbone's raw output becomes an exact integer embedding; learning and predicting call it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import LearningError

GRID = 4096
"""The length of an embedding: rows are L2-normalised and rounded to this many steps."""


def to_grid(raw: ArrayLike, zero_point: int = 0) -> NDArray[np.int16]:
    """Normalise raw backbone outputs and put them on the integer grid.

    The result has the same bits on every platform: the squares are summed in integers, and what follows
    (square root, division, rounding to even) is fixed by IEEE 754.

    Args:
        raw: (d,) or (n, d); int8, uint8, int16 or float32.
        zero_point: the raw value that stands for zero.

    Returns:
        int16 of the same shape; each row has a length of about GRID, a zero row stays zero.

    Raises:
        LearningError: another shape or type, NaN or infinity.
    """
    values = np.subtract(_integers(np.asarray(raw)), zero_point, dtype=np.int64)
    if values.ndim not in (1, 2):
        raise LearningError(f"embeddings have shape {values.shape}; give (d,) or (n, d)")
    length = np.sqrt((values * values).sum(axis=-1, keepdims=True))
    length[length == 0] = 1
    return np.asarray(np.rint(values / (length / GRID)), dtype=np.int16)


_FLOAT_STEPS = 1 << 20


def _integers(raw: NDArray[Any]) -> NDArray[Any]:
    if raw.dtype in (np.int8, np.uint8, np.int16):
        return raw
    if raw.dtype not in (np.float32, np.float64):
        raise LearningError(f"embeddings are {raw.dtype}; give int8, uint8, int16 or float32")
    if not np.isfinite(raw).all():
        raise LearningError("an embedding holds NaN or infinity; the model or its file is damaged")
    largest = np.abs(raw).max(axis=-1, keepdims=True, initial=0).astype(np.float64)
    largest[largest == 0] = 1
    return np.rint(raw.astype(np.float64) / largest * _FLOAT_STEPS).astype(np.int64)
