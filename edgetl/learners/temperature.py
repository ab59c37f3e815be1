"""Hides how scores are scaled so that their softmax can be believed; selection calls it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.last_layer import Floats


def fit_temperature(scores: Floats, y: NDArray[np.int64]) -> float:
    """Find the temperature with the least log-loss on scores (m, K) that were predicted out of fold.

    All classes weigh the same. Where every answer is right the least loss is at certainty, which m images cannot
    prove: so, as in Platt's method, the right class is aimed at with a probability of (m + 1) / (m + 2) only.
    A search over a wide grid comes before the golden section, so scores may have any scale.

    Sources: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017; Platt,
    Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    weights = class_weights(y)
    scale = float(np.ptp(scores, axis=1).mean()) or 1.0

    def loss(exponent: float) -> float:
        losses = log_losses(scores, y, scale * math.exp(exponent), doubt=1 / (len(y) + 2))
        return float(weights @ losses)

    middle = min((_STEP * i for i in range(-8, 5)), key=loss)
    return float(np.float32(scale * math.exp(_golden_section(loss, middle - _STEP, middle + _STEP))))


def log_losses(scores: Floats, y: NDArray[np.int64], temperature: float, doubt: float = 0.0) -> NDArray[np.float64]:
    """(m,) minus the logarithm of the probability that scores (m, K) give to the right classes y (m,).

    `doubt` is the share of the aim that is spread over all classes instead.
    """
    scaled = (scores / temperature).astype(np.float64)
    highest = scaled.max(axis=1)
    spread = np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    aim = (1 - doubt) * scaled[np.arange(len(y)), y] + doubt * scaled.mean(axis=1)
    return np.asarray(highest + spread - aim)


def class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) weights that sum to one, and to the same for each class in y (m,)."""
    counts = np.bincount(y)
    return 1.0 / (counts[y] * np.count_nonzero(counts))


_GOLDEN = (math.sqrt(5) - 1) / 2
_STEP = 1.0
_ROUNDS = 16


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_ROUNDS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
