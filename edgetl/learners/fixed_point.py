"""Converts the raw output of a backbone to a fixed-point embedding: a vector of integers of length 4096."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import LearningError

GRID = 4096
"""The length of a fixed-point embedding: the integer that stands for 1."""


def to_grid(raw: ArrayLike, zero_point: int = 0) -> NDArray[np.int16]:
    """Scale raw backbone outputs to length GRID, and round them to integers.

    The result has the same bits on every platform: the squares are summed in integers, and square root, division
    and rounding to even are fixed by IEEE 754.

    >>> to_grid(np.array([3, 4], dtype=np.int8)).tolist(), GRID
    ([2458, 3277], 4096)

    Args:
        raw: (d,) or (n, d); int8, uint8, int16, float32 or float64.
        zero_point: the raw value that stands for zero.

    Returns:
        int16 of the same shape. Each row has a length of about GRID; a zero row stays zero.

    Raises:
        LearningError: another shape or dtype, NaN or infinity.
    """
    values = np.subtract(_integers(np.asarray(raw)), zero_point, dtype=np.int64)
    if values.ndim not in (1, 2):
        raise LearningError(f"embeddings have shape {values.shape}; expected (d,) or (n, d)")
    length = np.sqrt((values * values).sum(axis=-1, keepdims=True))
    length[length == 0] = 1
    return np.asarray(np.rint(values / (length / GRID)), dtype=np.int16)


_FLOAT_STEPS = 1 << 20
"""Floats are rounded to this many steps of the largest magnitude in their row."""


def _integers(raw: NDArray[Any]) -> NDArray[Any]:
    if raw.dtype in (np.int8, np.uint8, np.int16):
        return raw
    if raw.dtype not in (np.float32, np.float64):
        raise LearningError(f"embeddings have dtype {raw.dtype}; expected int8, uint8, int16 or float32")
    if not np.isfinite(raw).all():
        raise LearningError("an embedding contains NaN or infinity; the model or its file is damaged")
    largest = np.abs(raw).max(axis=-1, keepdims=True, initial=0).astype(np.float64)
    largest[largest == 0] = 1
    return np.asarray(np.rint(raw.astype(np.float64) / largest * _FLOAT_STEPS), dtype=np.int64)
