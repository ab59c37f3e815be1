"""Linear discriminant: all classes share one shrunk covariance, so a new class benefits from the old ones at once."""

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
    """Return weights (d, K) float32 and bias (K,) float32; all classes count as equally probable.

    The score of class k is x' P m_k - m_k' P m_k / 2, with m_k its mean and P the inverse of the pooled
    covariance within classes S, shrunk to (1 - a) S + a mu I, where mu is the mean eigenvalue of S.

    Args:
        statistics: of fixed-point embeddings.
        shrinkage: a, between 0 and 1, or "oas" to compute it from the statistics.
        correction: compensate for the noise in the means of classes with few embeddings; see
            `_corrected_for_few_pictures`.

    Raises:
        LearningError: the statistics are empty.
        OptionError: the shrinkage is out of range.
    """
    return from_directions(Directions.of(Moments.of(statistics), shrinkage), correction)


def from_directions(directions: Directions, correction: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,) from directions that are already solved."""
    centred = directions.recentred(np.sqrt(directions.counts))
    squares, scales = np.diag(centred.products), np.ones(len(centred.counts))
    if correction:
        squares, scales = _corrected_for_few_pictures(squares, centred.counts, centred.noise)
    weights = centred.vectors * scales
    bias = -scales * squares / 2 - centred.centre @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


_MIN_SIGNAL = 0.05
_LEVELLING = 0.25


def _corrected_for_few_pictures(squares: Array, counts: Array, noise: float) -> tuple[Array, Array]:
    """Return (K,) squared distances of the true means from the centre, estimated, and (K,) factors for the scores.

    The squared distance of the mean of n embeddings from the centre is too large by noise / n, so a class with few
    embeddings would be starved. Subtracting noise / n corrects that on average, but overshoots if noise is most of
    the square: a class with one or two embeddings would attract those of all others. So each square keeps the share
    signal / (signal + noise / n) of itself, where the signal is the mean over all embeddings of (square - noise / n).
    For large n this is the same as subtracting, and it is never negative.

    Over embeddings of other classes, the score of a class varies with the square root of its uncorrected square,
    noise included. Multiplied by the square root of the share, the score of a class with few embeddings is not the
    highest by chance more often than others.

    Squares also differ between classes because their covariances do, which the model does not know. Moving them a
    quarter of the way towards the signal, their mean, compensates for that; an eighth or a half do nearly as well.

    The centre matters as much. Relative to the plain mean of the class means, which noisy classes pull towards
    themselves, noisy classes look too near; relative to the mean of all embeddings, old classes do. Weighting the
    class means by the square root of their counts lies in between and suits both (benchmarks/fewshot.py).
    """
    observed = counts @ squares
    signal = max(observed - len(counts) * noise, _MIN_SIGNAL * observed) / counts.sum()
    if signal <= 0:
        return squares, np.ones(len(counts))
    share = signal / (signal + noise / counts)
    return share * squares + _LEVELLING * (signal - share * squares), np.sqrt(share)
