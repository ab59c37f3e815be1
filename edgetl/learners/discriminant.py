"""Linear discriminant with shrinkage: one covariance for all classes, so a new class profits from the old ones."""

from __future__ import annotations

from typing import Union

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import OptionError
from edgetl.learners.moments import Array, Moments, solve_positive
from edgetl.learners.statistics import Statistics

NAME = "discriminant"

Shrinkage = Union[float, str]


def solve(
    statistics: Statistics, shrinkage: Shrinkage = "oas", correction: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,); all classes count as equally probable.

    The score of class k is x' P m_k - m_k' P m_k / 2, with m_k its mean and P the inverse of the pooled
    covariance within classes S, shrunk to (1 - a) S + a mu I, where mu is the mean eigenvalue of S.

    Args:
        statistics: of embeddings on the grid.
        shrinkage: a, above 0 and at most 1, or "oas": Chen et al., Shrinkage Algorithms for MMSE Covariance
            Estimation, IEEE Trans. Signal Processing 58(10), 2010, eq. 23.
        correction: make up for the noise in the means of classes with few embeddings.

    Raises:
        OptionError: the shrinkage is out of range.
    """
    moments = Moments.of(statistics)
    amount = _amount(shrinkage, moments)
    centre = moments.means.mean(axis=0)
    offsets = moments.means - centre
    system = (1 - amount) * moments.scatter
    system.flat[:: len(system) + 1] += amount * moments.spread
    freedom = max(moments.counts.sum() - len(moments.counts), 1.0)
    probes = _probes(len(system))
    solved = solve_positive(system, np.concatenate([offsets.T, probes], axis=1)) * freedom
    weights, inverse_probes = solved[:, : len(offsets)], solved[:, len(offsets) :]
    squares = np.einsum("kd,dk->k", offsets, weights)
    if correction:
        noise = _noise(moments, amount, float((probes * inverse_probes).mean() * len(system) / freedom))
        kept = _kept(squares, noise / moments.counts)
        weights, squares = weights * kept, squares * kept**2
    bias = -squares / 2 - centre @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


_PROBES = 32


def _amount(shrinkage: Shrinkage, moments: Moments) -> float:
    if shrinkage == "oas":
        return _oas(moments)
    if isinstance(shrinkage, str) or not 0 < shrinkage <= 1:
        raise OptionError(f"shrinkage is {shrinkage!r}; give a number above 0 and at most 1, or 'oas'")
    return float(shrinkage)


def _oas(moments: Moments) -> float:
    d = len(moments.scatter)
    freedom = max(moments.counts.sum() - len(moments.counts), 1.0)
    trace_squared = float(np.trace(moments.scatter)) ** 2
    squares = float((moments.scatter**2).sum())
    above = (1 - 2 / d) * squares + trace_squared
    below = (freedom + 1 - 2 / d) * (squares - trace_squared / d)
    return float(np.clip(above / below, _LEAST_SHRINKAGE, 1)) if below > 0 else 1.0


_LEAST_SHRINKAGE = 1e-3


def _probes(d: int) -> Array:
    """Random signs, always the same, to estimate the trace of an inverse (Hutchinson 1990)."""
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(d, _PROBES))


def _noise(moments: Moments, amount: float, inverse_trace: float) -> float:
    """Estimate c, the mean of (x - m)' P (x - m) for an embedding that neither m nor P has seen.

    The leave-one-out value of one embedding is h / (1 - h), in units of P, with h its leverage in the scatter
    (Sherman and Morrison). With the mean leverage in place of each one's (as generalised cross-validation
    does), only traces are left, and those follow from the statistics.
    """
    total, classes = moments.counts.sum(), len(moments.counts)
    freedom = max(total - classes, 1.0)
    ridge = amount * moments.spread
    effective = max(len(moments.scatter) - ridge * inverse_trace, 0.0)
    leverage = min(effective / freedom, 0.99)
    return float(freedom / max(1 - amount, 1e-6) * leverage / (1 - leverage))


def _kept(squares: Array, noise: Array) -> Array:
    """How much of its distance from the centre each class mean keeps (James and Stein 1961)."""
    signal = np.maximum(squares - noise, 0.05 * squares)
    return signal / np.maximum(squares, np.finfo(np.float64).tiny)
