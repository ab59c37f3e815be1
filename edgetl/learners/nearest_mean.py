"""The nearest class mean by cosine (imprinting): needs only counts and sums, so it serves from the first picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners.statistics import Statistics

NAME = "nearest-mean"


def solve(statistics: Statistics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K), the class means scaled to length 1, and a bias (K,) of zeros.

    Source: Qi, Brown and Lowe, Low-Shot Learning with Imprinted Weights, CVPR 2018.
    """
    if not statistics.labels:
        raise LearningError("nothing was taught yet; teach at least two classes first")
    sums = statistics.sums.astype(np.float64)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    length[length == 0] = 1
    weights = (sums / length).T
    return weights.astype(np.float32), np.zeros(len(sums), dtype=np.float32)
