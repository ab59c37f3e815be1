"""Hides how scores are scaled so that their softmax can be believed; selection calls it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.last_layer import Floats


def fit_temperature(scores: Floats, y: NDArray[np.int64]) -> float:
    """Find the temperature with the least log-loss on scores (m, K) that were predicted out of fold.

    A search over a wide grid of temperatures comes before the golden section, so scores on any scale do; all
    classes weigh the same.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
    """
    weights = class_weights(y)
    scale = float(np.ptp(scores, axis=1).mean()) or 1.0

    def loss(exponent: float) -> float:
        return float(weights @ log_losses(scores, y, scale * math.exp(exponent)))

    step = 1.0
    middle = min((step * i for i in range(-8, 5)), key=loss)
    return float(np.float32(scale * math.exp(_golden_section(loss, middle - step, middle + step))))


def log_losses(scores: Floats, y: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    """(m,) minus the logarithm of the probability that scores (m, K) give to the right classes y (m,)."""
    scaled = scores / np.float32(temperature)
    highest = scaled.max(axis=1)
    spread = np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    losses = highest - scaled[np.arange(len(y)), y] + spread
    return np.minimum(losses.astype(np.float64), _LARGEST_LOSS)


def class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) weights that sum to one, and to the same for each class in y (m,)."""
    counts = np.bincount(y)
    return 1.0 / (counts[y] * np.count_nonzero(counts))


_GOLDEN = (math.sqrt(5) - 1) / 2
_ROUNDS = 16
_LARGEST_LOSS = 12.0
"""What one image can cost at most: a wrong label must not decide how sure everything else may be."""


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
