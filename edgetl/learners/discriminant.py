"""Linear discriminant: all classes share one shrunk covariance, so a new one profits from the old ones at once."""

from __future__ import annotations

from typing import Union

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.moments import Array, Directions, Moments
from edgetl.learners.statistics import Statistics

NAME = "discriminant"


def solve(
    statistics: Statistics, shrinkage: Union[float, str] = "oas", correction: bool = True
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
    moments = Moments.of(statistics)
    amount = oracle_shrinkage(moments) if shrinkage == "oas" else shrinkage
    return from_directions(Directions.of(moments, amount), correction)  # type: ignore[arg-type]


def from_directions(directions: Directions, correction: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) for directions that were solved for already."""
    seen = directions.seen_from(np.sqrt(directions.counts))
    squares = np.diag(seen.products)
    if correction:
        squares = _corrected(squares, seen.counts, seen.noise)
    bias = -squares / 2 - seen.centre @ seen.vectors
    return seen.vectors.astype(np.float32), bias.astype(np.float32)


def oracle_shrinkage(moments: Moments) -> float:
    """Approximate the oracle's shrinkage.

    Source: Chen, Wiesel, Eldar and Hero, Shrinkage Algorithms for MMSE Covariance Estimation, IEEE Trans. Signal
    Processing 58(10), 2010, equation 23.
    """
    d = moments.dimension
    trace_squared = float(np.trace(moments.scatter)) ** 2
    squares = float(np.vdot(moments.scatter, moments.scatter))
    above = (1 - 2 / d) * squares + trace_squared
    below = (moments.freedom + 1 - 2 / d) * (squares - trace_squared / d)
    return min(max(above / below, _LEAST_SHRINKAGE), _MOST_SHRINKAGE) if below > 0 else _MOST_SHRINKAGE


_LEAST_SHRINKAGE = 1e-3
_MOST_SHRINKAGE = 0.999
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
