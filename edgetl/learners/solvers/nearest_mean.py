"""Nearest class mean by cosine (imprinting): needs only counts and sums, so it works from the first picture."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners.moments import Directions
from edgetl.learners.statistics import Statistics

NAME = "nearest-mean"
PARAMETERS: Dict[str, Any] = {}


def solve(statistics: Statistics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) float32, the class means scaled to length 1, and a bias (K,) float32 of zeros.

    Source: Qi, Brown and Lowe, Low-Shot Learning with Imprinted Weights, CVPR 2018.

    Raises:
        LearningError: the statistics are empty.
    """
    if not statistics.labels:
        raise LearningError("nothing was taught yet; teach at least two classes first")
    return from_means(statistics.sums.astype(np.float64))


def from_directions(directions: Directions) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) from the class means of directions that are already solved."""
    return from_means(directions.means)


def from_means(means: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) for class means (K, d) of any length."""
    length = np.linalg.norm(means, axis=1, keepdims=True)
    length[length == 0] = 1
    return np.ascontiguousarray((means / length).T, dtype=np.float32), np.zeros(len(means), dtype=np.float32)
