"""Ridge regression on one-hot labels with an intercept."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.moments import Directions, Moments, Shrinkage
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.statistics import Statistics

NAME = "ridge"
PARAMETERS: Dict[str, Any] = {"shrinkage": SHRINKAGE}


def solve(statistics: Statistics, shrinkage: Shrinkage = "oas") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) float32 and bias (K,) float32.

    Args:
        statistics: of fixed-point embeddings.
        shrinkage: a, between 0 and 1, or "oas" to compute it from the statistics. The ridge is a / (1 - a) times the
            mean eigenvalue of the scatter within classes, so the same a smooths as much as in the discriminant.

    Raises:
        LearningError: the statistics are empty.
        OptionError: the shrinkage is out of range.
    """
    return from_directions(Directions.of(Moments.of(statistics), shrinkage))


def from_directions(directions: Directions) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) from directions that are already solved.

    The total scatter is the scatter within classes plus O' N O, with O the class means relative to the mean of all
    embeddings and N the diagonal matrix of their counts. So Woodbury's identity gives its inverse from that of the
    scatter within classes.
    """
    counts = directions.counts
    centred = directions.recentred(counts)
    within = centred.products * centred.scale
    mixing = np.linalg.solve(np.eye(len(counts)) + counts[:, None] * within, np.diag(counts))
    weights = centred.vectors * centred.scale @ mixing
    bias = counts / counts.sum() - centred.centre @ weights
    return weights.astype(np.float32), bias.astype(np.float32)
