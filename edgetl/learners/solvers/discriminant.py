"""Linear discriminant: all classes share one shrunk covariance, so a new one profits from the old ones at once."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.moments import Array, Directions, Moments, Shrinkage
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.statistics import Statistics

NAME = "discriminant"
PARAMETERS: Dict[str, Any] = {"shrinkage": SHRINKAGE}


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
    squares, scales = np.diag(seen.products), np.ones(len(seen.counts))
    if correction:
        squares, scales = _corrected(squares, seen.counts, seen.noise)
    weights = seen.vectors * scales
    bias = -scales * squares / 2 - seen.centre @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


_LEAST_SIGNAL = 0.05
_LEVELLING = 0.25


def _corrected(squares: Array, counts: Array, noise: float) -> tuple[Array, Array]:
    """Squared distances from the centre (K,) as the true means would have them, and what to scale the scores by.

    The mean of n embeddings lies noise / n too far out, in squares, so a class with few of them would be
    starved. Taking noise / n off removes that on average, but overshoots where the noise is most of what is
    there, and a class of one or two embeddings swallows the others. So every square keeps the share
    signal / (signal + noise / n) of itself, where the signal is what is left of all squares, each counting as
    much as its class: at many embeddings that is the same, and it can never go below nothing.

    Over embeddings of other classes, a score varies by the root of the square as it is, noise included: scaled
    by the root of the share, the score of a class with few embeddings is not the highest by chance more often.

    Squares differ between classes also because their covariances do, which the model does not know. A quarter
    of the way to the signal, their mean, makes up for that; so do an eighth and a half, nearly as well.

    The centre matters as much: seen from the plain mean of the class means, which the noisy ones pull to
    themselves, these look nearer than they are; seen from the mean of all embeddings, the old classes do.
    Weights in between, by the root of the count, serve both (benchmarks/fewshot.py).
    """
    observed = counts @ squares
    signal = max(observed - len(counts) * noise, _LEAST_SIGNAL * observed) / counts.sum()
    if signal <= 0:
        return squares, np.ones(len(counts))
    share = signal / (signal + noise / counts)
    return share * squares + _LEVELLING * (signal - share * squares), np.sqrt(share)
