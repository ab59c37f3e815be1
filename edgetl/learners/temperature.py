"""Finds the temperature that makes the softmax of scores a calibrated probability."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.last_layer import Floats


def fit_temperature(scores: Floats, y: NDArray[np.int64]) -> float:
    """Find the temperature with the least log-loss on scores (m, K) that were predicted out of fold.

    All classes weigh the same. If every prediction is right, the least loss is at certainty, which m images cannot
    prove. So, as in Platt's method, the target probability of the right class is only (m + 1) / (m + 2).
    A coarse search over a wide range precedes the golden-section search, so scores may have any scale.

    Sources: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017; Platt,
    Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    weights = class_weights(y)
    scale = float(np.ptp(scores, axis=1).mean()) or 1.0

    def loss(exponent: float) -> float:
        losses = log_losses(scores, y, scale * math.exp(exponent), smoothing=1 / (len(y) + 2))
        return float(weights @ losses)

    middle = min((_EXPONENT_STEP * i for i in range(-8, 5)), key=loss)
    return float(np.float32(scale * math.exp(_golden_section(loss, middle - _EXPONENT_STEP, middle + _EXPONENT_STEP))))


def log_losses(scores: Floats, y: NDArray[np.int64], temperature: float, smoothing: float = 0.0) -> NDArray[np.float64]:
    """Return (m,): minus the logarithm of the probability that scores (m, K) give to the right classes y (m,).

    `smoothing` is the share of the target probability that is spread evenly over all classes (label smoothing).
    """
    scaled = (scores / temperature).astype(np.float64)
    highest = scaled.max(axis=1)
    spread = np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    target = (1 - smoothing) * scaled[np.arange(len(y)), y] + smoothing * scaled.mean(axis=1)
    return np.asarray(highest + spread - target)


def class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (m,) weights that sum to 1, in which each class in y (m,) has the same total weight."""
    counts = np.bincount(y)
    return 1.0 / (counts[y] * np.count_nonzero(counts))


_GOLDEN = (math.sqrt(5) - 1) / 2
_EXPONENT_STEP = 1.0
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
