"""Hides the step from exact integers to the float systems behind the weights; the solvers and selection call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError, OptionError
from edgetl.learners.cholesky import Cholesky
from edgetl.learners.fixed_point import GRID
from edgetl.learners.statistics import Statistics

Array = NDArray[Any]
Shrinkage = Union[float, str]
"""Between 0 and 1, or "oas" to compute it from the statistics."""


@dataclass(frozen=True)
class Moments:
    """What the solvers need of the statistics, for embeddings of length 1.

    Attributes:
        counts: (K,) embeddings in each class.
        means: (K, d) class means.
        scatter: (d, d), the sum over all embeddings of the outer product of (embedding - its class's mean).
        dimension: numbers in an embedding; more than d where other coordinates stand for the embeddings.
    """

    counts: Array
    means: Array
    scatter: Array
    dimension: int

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
        weighted = means.T * counts
        for start in range(0, len(scatter), _STRIP):
            strip = slice(start, start + _STRIP)
            scatter[strip] -= weighted[strip] @ means
        return cls(counts, means, scatter, len(scatter))

    @classmethod
    def of_rows(cls, rows: Array, y: NDArray[np.int64], dimension: int) -> Moments:
        """Compute them from coordinates (n, r) that keep all inner products, and slots (n,) from 0 without gaps."""
        counts = np.bincount(y).astype(np.float64)
        means = np.stack([rows[y == slot].mean(axis=0) for slot in range(len(counts))])
        differences = rows - means[y]
        return cls(counts, means, differences.T @ differences, dimension)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the scatter."""
        return max(float(self.counts.sum()) - len(self.counts), 1.0)

    @property
    def spread(self) -> float:
        """The mean eigenvalue of the scatter; where all classes are single points, a trifle of their squares."""
        trace = float(np.trace(self.scatter))
        squares = float(self.counts @ (self.means**2).sum(axis=1))
        return max(trace, squares * _VANISHING, _VANISHING) / self.dimension


@dataclass(frozen=True)
class Directions:
    """The class means as seen from a centre, and multiplied by the inverse P of a shrunk covariance.

    With S the scatter over its degrees of freedom and mu its mean eigenvalue, P = ((1 - a) S + a mu I)^-1.
    One solution serves discriminant and ridge alike, and any centre that is a mean of the class means.

    Attributes:
        counts: (K,) embeddings in each class.
        means: (K, d) class means.
        centre: (d,) what they are seen from; at first their plain mean.
        vectors: (d, K), P (m_k - centre).
        products: (K, K), (m_j - centre)' P (m_k - centre).
        noise: (x - m)' P (x - m) to be expected of an embedding x that was not learned from.
        scale: what turns P into the inverse of scatter + lambda I, the form that ridge needs.
    """

    counts: Array
    means: Array
    centre: Array
    vectors: Array
    products: Array
    noise: float
    scale: float

    @classmethod
    def of(cls, moments: Moments, shrinkage: Shrinkage) -> Directions:
        """Solve for them.

        Raises:
            OptionError: the shrinkage is neither between 0 and 1 nor "oas".
            LearningError: the scatter is not positive definite.
        """
        amount = _amount(shrinkage, moments)
        ridge = amount * moments.spread
        system = (1 - amount) * moments.scatter
        system.flat[:: len(system) + 1] += ridge
        factor = _factor(system.astype(_precision(amount, moments.dimension), copy=False))
        centre = moments.means.mean(axis=0)
        offsets = moments.means - centre
        solved = _solve_refined(system, factor, offsets)
        inverse_trace = float((factor.forward(_probes(len(system))) ** 2).sum(dtype=np.float64))
        return cls(
            counts=moments.counts,
            means=moments.means,
            centre=centre,
            vectors=np.ascontiguousarray(solved.T) * moments.freedom,
            products=offsets @ solved.T * moments.freedom,
            noise=_noise(len(system) - ridge * inverse_trace, moments.freedom) / (1 - amount),
            scale=(1 - amount) / moments.freedom,
        )

    def of_classes(self, slots: Sequence[int]) -> Directions:
        """The same for these classes only, in this order, seen from their plain mean."""
        chosen = np.asarray(slots, dtype=np.intp)
        kept = replace(
            self,
            counts=self.counts[chosen],
            means=self.means[chosen],
            vectors=self.vectors[:, chosen],
            products=self.products[np.ix_(chosen, chosen)],
        )
        return kept.seen_from(np.ones(len(chosen)))

    def seen_from(self, weights: Array) -> Directions:
        """The same from another centre: the mean of the class means under these (K,) weights."""
        shares = weights / weights.sum()
        sideways = self.products @ shares
        return replace(
            self,
            centre=shares @ self.means,
            vectors=self.vectors - (self.vectors @ shares)[:, None],
            products=self.products - sideways - sideways[:, None] + shares @ sideways,
        )

    def with_scatter(self, mixtures: Array, amounts: Array) -> Directions:
        """The same once `amounts` (c,), above 0, times d d' have joined the scatter.

        Each d is a sum of class means; `mixtures` (c, K) say of which, and add up to 0 each. By Woodbury's identity
        nothing is factored again. Ridge and noise stay as they are.
        """
        seen = self.products @ mixtures.T
        inner = mixtures @ seen
        inner.flat[:: len(inner) + 1] += 1 / (self.scale * amounts)
        correction = np.linalg.solve(inner, seen.T)
        return replace(
            self,
            vectors=self.vectors - (self.vectors @ mixtures.T) @ correction,
            products=self.products - seen @ correction,
        )


_CAUTION = 4.0
"""What the oracle's shrinkage is multiplied by.

It is the best for the covariance itself, were all pictures independent. Photos of one class resemble each other, so
they tell less than their number, and weights need the inverse, which suffers more. Anything from 4 to 8 serves alike:
benchmarks/fewshot.py, benchmarks/incremental.py.
"""
_LEAST_SHRINKAGE = 0.02
"""With less, a system as large as an embedding is solved in double precision, in twice the time."""
_MOST_SHRINKAGE = 0.9
"""A tenth of the covariance serves even where little is known of it."""
_STRIP = 128
_PROBES = 32
_EXACT_TRACE = 128
_SINGLE_PRECISION_LIMIT = 1e-2
_VANISHING = 1e-6
_LARGEST_LEVERAGE = 0.99


def _amount(shrinkage: Shrinkage, moments: Moments) -> float:
    if shrinkage == "oas":
        return min(max(_CAUTION * _oracle_shrinkage(moments), _LEAST_SHRINKAGE), _MOST_SHRINKAGE)
    if not isinstance(shrinkage, (int, float)) or not 0 < shrinkage < 1:
        raise OptionError(f"shrinkage is {shrinkage!r}; give a number between 0 and 1, or 'oas'")
    return float(shrinkage)


def _oracle_shrinkage(moments: Moments) -> float:
    """Approximate the oracle's shrinkage, 0 to 1.

    Source: Chen, Wiesel, Eldar and Hero, Shrinkage Algorithms for MMSE Covariance Estimation, IEEE Trans. Signal
    Processing 58(10), 2010, equation 23.
    """
    d = moments.dimension
    trace_squared = float(np.trace(moments.scatter)) ** 2
    squares = float(np.vdot(moments.scatter, moments.scatter))
    above = (1 - 2 / d) * squares + trace_squared
    below = (moments.freedom + 1 - 2 / d) * (squares - trace_squared / d)
    return min(above / below, 1.0) if below > 0 else 1.0


def _precision(amount: float, dimension: int) -> type[np.floating[Any]]:
    """Single precision, which is twice as fast, where rounding and the condition of the system allow it.

    No eigenvalue is below the ridge, and none is above the trace.
    """
    condition = 1 + (1 - amount) / amount * dimension
    return np.float32 if condition * np.finfo(np.float32).eps < _SINGLE_PRECISION_LIMIT else np.float64


def _factor(system: Array) -> Cholesky:
    """The factor of a shrunk covariance, which is positive definite whenever it is one of embeddings."""
    try:
        return Cholesky(system)
    except np.linalg.LinAlgError as error:
        raise LearningError(
            "no embeddings can have these statistics; they are damaged, or something was removed that was never added"
        ) from error


def _solve_refined(system: Array, factor: Cholesky, rows: Array) -> Array:
    """(m, d) float64, the inverse of the system times rows (m, d), with one step of iterative refinement.

    It makes up for a factor of single precision: Higham, Accuracy and Stability of Numerical Algorithms, chapter 12.
    """
    solved = factor.solve(rows).astype(np.float64)
    return solved + factor.solve(rows - solved @ system)


def _probes(d: int) -> Array:
    """(m, d) rows z that make sums of z' A z the trace of A: exactly where d is small, else nearly.

    Random signs, always the same, estimate a trace (Hutchinson 1990).
    """
    if d <= _EXACT_TRACE:
        return np.eye(d)
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(_PROBES, d)) / np.sqrt(_PROBES)


def _noise(effective: float, freedom: float) -> float:
    """Leave-one-out mean of (x - m)' inv(scatter / freedom) (x - m), from the effective number of parameters.

    By Sherman and Morrison the leave-one-out value of one embedding is h / (1 - h) times the degrees of
    freedom, where h is its leverage in the scatter. With the mean leverage in place of each one's, as generalised
    cross-validation does (Golub, Heath and Wahba 1979), the statistics are enough: no embedding needs storing.
    """
    leverage = min(max(effective / freedom, 0.0), _LARGEST_LEVERAGE)
    return freedom * leverage / (1 - leverage)
