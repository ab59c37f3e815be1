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
    """Return weights (d, K) and bias (K,).

    Args:
        statistics: of embeddings on the grid.
        shrinkage: a, between 0 and 1 or "oas"; the ridge is a / (1 - a) times the mean eigenvalue of the scatter within
            classes, so that the same number smooths as much as in the discriminant.

    Raises:
        LearningError: there is no class.
        OptionError: the shrinkage is out of range.
    """
    return from_directions(Directions.of(Moments.of(statistics), shrinkage))


def from_directions(directions: Directions) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) for directions that were solved for already.

    The total scatter is the scatter within classes plus O' N O, with O the class means seen from the mean of
    all embeddings and N their counts, so Woodbury's identity gives its inverse from that of the scatter within.
    """
    counts = directions.counts
    seen = directions.seen_from(counts)
    within = seen.products * seen.scale
    mixing = np.linalg.solve(np.eye(len(counts)) + counts[:, None] * within, np.diag(counts))
    weights = seen.vectors * seen.scale @ mixing
    bias = counts / counts.sum() - seen.centre @ weights
    return weights.astype(np.float32), bias.astype(np.float32)
