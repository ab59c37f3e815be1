"""Linear discriminant: all classes share one shrunk covariance, so a new one profits from the old ones at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.moments import Array, Directions, Moments, Shrinkage
from edgetl.learners.statistics import Statistics

NAME = "discriminant"


def solve(
    statistics: Statistics, shrinkage: Shrinkage = "oas", correction: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,); all classes count as equally probable.

    The score of class k is x' P m_k - m_k' P m_k / 2, with m_k its mean and P the inverse of the pooled
    covariance within classes S, shrunk to (1 - a) S + a mu I, where mu is the mean eigenvalue of S.

    Args:
        statistics: of embeddings on the grid.
        shrinkage: a, between 0 and 1, or "oas" to compute it from the statistics.
        correction: make up for the noise in the means of classes with few embeddings; see `_corrected`.

    Raises:
        LearningError: there is no class.
        OptionError: the shrinkage is out of range.
    """
    return from_directions(Directions.of(Moments.of(statistics), shrinkage), correction)


def from_directions(directions: Directions, correction: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) for directions that were solved for already."""
    seen = directions.seen_from(np.sqrt(directions.counts))
    squares = np.diag(seen.products)
    if correction:
        squares = _corrected(squares, seen.counts, seen.noise)
    bias = -squares / 2 - seen.centre @ seen.vectors
    return seen.vectors.astype(np.float32), bias.astype(np.float32)


_LEAST_SIGNAL = 0.05


def _corrected(squares: Array, counts: Array, noise: float) -> Array:
    """Scale each class's squared distance from the centre down to what its true mean would have.

    The mean of n embeddings lies noise / n too far out, in squares, so a class with few of them would be
    starved. Taking noise / n off removes that on average, but overshoots where the noise is most of what is
    there, and a class of one or two embeddings swallows the others. So every square keeps the share
    signal / (signal + noise / n) of itself, where the signal is what is left of all squares, each counting as
    much as its class: at many embeddings that is the same, and it can never go below nothing.

    The centre matters as much: seen from the plain mean of the class means, which the noisy ones pull to
    themselves, these look nearer than they are; seen from the mean of all embeddings, the old classes do.
    Weights in between, by the root of the count, serve both (benchmarks/fewshot.py).
    """
    observed = counts @ squares
    signal = max(observed - len(counts) * noise, _LEAST_SIGNAL * observed) / counts.sum()
    if signal <= 0:
        return squares
    return squares * signal / (signal + noise / counts)
