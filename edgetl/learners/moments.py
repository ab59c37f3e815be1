"""Hides the step from exact integers to floating-point moments and linear systems; the solvers call it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners.embedding import GRID
from edgetl.learners.statistics import Statistics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What the solvers need of the statistics, for embeddings of length 1.

    counts (K,), means (K, d) and scatter (d, d), the sum over all embeddings of the outer products of their
    differences from their class's mean.
    """

    counts: Array
    means: Array
    scatter: Array

    @classmethod
    def of(cls, statistics: Statistics) -> Moments:
        """Compute them; the one place where integers become floats.

        Raises:
            LearningError: there is no class.
        """
        if not statistics.labels:
            raise LearningError("nothing was taught yet; teach at least two classes first")
        counts = statistics.counts.astype(np.float64)
        means = statistics.sums / (counts[:, None] * GRID)
        scatter = statistics.gram * (1.0 / GRID**2)
        scatter -= (means.T * counts) @ means
        return cls(counts, means, scatter)

    @property
    def spread(self) -> float:
        """The mean eigenvalue of the scatter; where it vanishes (every class is one point), that of the means."""
        trace = float(np.trace(self.scatter))
        squares = float(self.counts @ (self.means**2).sum(axis=1))
        return max(trace, squares * _VANISHING, np.finfo(np.float64).tiny) / len(self.scatter)


def solve_positive(matrix: Array, right: Array) -> Array:
    """Solve matrix @ x = right for a symmetric positive definite matrix, by Cholesky factors.

    numpy has no triangular solver, so both substitutions go by blocks: nearly all of it is matrix products.
    """
    lower = np.linalg.cholesky(matrix)
    x = np.array(right)
    starts = range(0, len(lower), _BLOCK)
    for start in starts:
        block = slice(start, start + _BLOCK)
        x[block] -= lower[block, :start] @ x[:start]
        x[block] = np.linalg.solve(lower[block, block], x[block])
    for start in reversed(starts):
        block, below = slice(start, start + _BLOCK), slice(start + _BLOCK, None)
        x[block] -= lower[below, block].T @ x[below]
        x[block] = np.linalg.solve(lower[block, block].T, x[block])
    return x


_BLOCK = 64
_VANISHING = 1e-6
