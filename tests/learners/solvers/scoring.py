"""Scores a solver's weights on embeddings that it has not seen."""

from __future__ import annotations

import numpy as np

from edgetl.learners import GRID, Statistics
from tests.learners.conftest import name

COUNTS = {0: 30, 1: 20, 2: 40, 3: 25}


def predicted(solution, rows) -> np.ndarray:
    """(n,) the predicted columns of embeddings (n, d), by weights (d, K) and bias (K,)."""
    weights, bias = solution
    return (rows / GRID @ weights + bias).argmax(axis=1)


def accuracy(solution, world, statistics: Statistics, labels, seed: int = 99) -> float:
    """The accuracy over these classes of a world, 0 to 1; all of them weigh the same."""
    hits = []
    for label in labels:
        column = statistics.labels.index(name(label))
        hits.append((predicted(solution, world.draw(label, 100, seed)) == column).mean())
    return float(np.mean(hits))
