"""Turns exact integer statistics into means, a covariance and its inverse, from which the solvers compute weights."""

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
"""A number between 0 and 1, or "oas" to compute it from the statistics."""


@dataclass(frozen=True)
class Moments:
    """Counts, class means and scatter of embeddings of length 1.

    Attributes:
        counts: (K,), embeddings in each class.
        means: (K, d), class means.
        scatter: (d, d), the sum over all embeddings of (x - m)(x - m)', with m the mean of the class of x.
        dimension: numbers in an embedding; more than d if other coordinates represent the embeddings.
    """

    counts: Array
    means: Array
    scatter: Array
    dimension: int

    @classmethod
    def of(cls, statistics: Statistics) -> Moments:
        """Compute them from statistics. This is the only place where integers become floats.

        Raises:
            LearningError: the statistics are empty.
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
        """Compute them from coordinates (n, r) that keep all inner products, and class indices y (n,), 0 to K - 1."""
        counts = np.bincount(y).astype(np.float64)
        means = np.stack([rows[y == index].mean(axis=0) for index in range(len(counts))])
        differences = rows - means[y]
        return cls(counts, means, differences.T @ differences, dimension)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the scatter."""
        return max(float(self.counts.sum()) - len(self.counts), 1.0)

    @property
    def spread(self) -> float:
        """The mean eigenvalue of the scatter; above 0 even if all classes are single points."""
        trace = float(np.trace(self.scatter))
        squares = float(self.counts @ (self.means**2).sum(axis=1))
        return max(trace, squares * _VANISHING, _VANISHING) / self.dimension


@dataclass(frozen=True)
class Directions:
    """The class means relative to a centre, multiplied by the inverse P of a shrunk covariance.

    With S the scatter over its degrees of freedom and mu its mean eigenvalue, P = ((1 - a) S + a mu I)^-1.
    One solution serves all solvers, and every centre that is a weighted mean of the class means.

    Attributes:
        counts: (K,), embeddings in each class.
        means: (K, d), class means m_k.
        centre: (d,), a weighted mean of the class means; initially their plain mean.
        vectors: (d, K), P (m_k - centre).
        products: (K, K), (m_j - centre)' P (m_k - centre).
        noise: the expected (x - m)' P (x - m) of an embedding x that was not learned from, with m its class mean.
        scale: P times this is (scatter + lambda I)^-1, the form that ridge needs.
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
        """Solve for them. At first the centre is the plain mean of the class means.

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

    def of_classes(self, indices: Sequence[int]) -> Directions:
        """Return the directions of these classes only, in this order, centred on their plain mean."""
        chosen = np.asarray(indices, dtype=np.intp)
        kept = replace(
            self,
            counts=self.counts[chosen],
            means=self.means[chosen],
            vectors=self.vectors[:, chosen],
            products=self.products[np.ix_(chosen, chosen)],
        )
        return kept.recentred(np.ones(len(chosen)))

    def recentred(self, weights: Array) -> Directions:
        """Return the same directions relative to the mean of the class means under these weights (K,)."""
        shares = weights / weights.sum()
        offset = self.products @ shares
        return replace(
            self,
            centre=shares @ self.means,
            vectors=self.vectors - (self.vectors @ shares)[:, None],
            products=self.products - offset - offset[:, None] + shares @ offset,
        )

    def with_scatter(self, mixtures: Array, amounts: Array) -> Directions:
        """Return the directions after c terms `amounts[i]` D_i D_i' have been added to the scatter.

        Nothing is factored again, by Woodbury's identity. Ridge and noise stay as they are.

        Args:
            mixtures: (c, K), each D_i as a linear combination of the class means; each row sums to 0.
            amounts: (c,), above 0.
        """
        projected = self.products @ mixtures.T
        inner = mixtures @ projected
        inner.flat[:: len(inner) + 1] += 1 / (self.scale * amounts)
        correction = np.linalg.solve(inner, projected.T)
        return replace(
            self,
            vectors=self.vectors - (self.vectors @ mixtures.T) @ correction,
            products=self.products - projected @ correction,
        )


_CAUTION = 4.0
"""A factor on the oracle's shrinkage.

The oracle's is the best for the covariance itself, for independent pictures. Photos of one class resemble each other
and carry less information than their number suggests, and weights need the inverse of the covariance, which is more
sensitive. Anything from 4 to 8 works alike: benchmarks/fewshot.py, benchmarks/incremental.py.
"""
_MIN_SHRINKAGE = 0.02
"""With less, a system as large as an embedding needs double precision, which takes twice the time."""
_MAX_SHRINKAGE = 0.9
"""A tenth of the covariance helps even if it is hardly known."""
_STRIP = 128
_PROBES = 32
_EXACT_TRACE = 128
_SINGLE_PRECISION_LIMIT = 1e-2
_VANISHING = 1e-6
_LARGEST_LEVERAGE = 0.99


def _amount(shrinkage: Shrinkage, moments: Moments) -> float:
    if shrinkage == "oas":
        return min(max(_CAUTION * _oracle_shrinkage(moments), _MIN_SHRINKAGE), _MAX_SHRINKAGE)
    if not isinstance(shrinkage, (int, float)) or not 0 < shrinkage < 1:
        raise OptionError(f"shrinkage is {shrinkage!r}; expected a number between 0 and 1, or 'oas'")
    return float(shrinkage)


def _oracle_shrinkage(moments: Moments) -> float:
    """Approximate the oracle's shrinkage, 0 to 1 (oracle approximating shrinkage, OAS).

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
    """Single precision, which is twice as fast, if the condition number of the system allows it.

    Its eigenvalues are bounded by the ridge from below and by the trace from above.
    """
    condition = 1 + (1 - amount) / amount * dimension
    return np.float32 if condition * np.finfo(np.float32).eps < _SINGLE_PRECISION_LIMIT else np.float64


def _factor(system: Array) -> Cholesky:
    """Factorise a shrunk covariance. That of real embeddings is always positive definite."""
    try:
        return Cholesky(system)
    except np.linalg.LinAlgError as error:
        raise LearningError(
            "no embeddings can have these statistics: they are damaged, or something was removed that was never added"
        ) from error


def _solve_refined(system: Array, factor: Cholesky, rows: Array) -> Array:
    """Return (m, d) float64: the inverse of the system times rows (m, d), with one step of iterative refinement.

    The refinement makes up for a factor in single precision.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, chapter 12.
    """
    solved = factor.solve(rows).astype(np.float64)
    return np.asarray(solved + factor.solve(rows - solved @ system))


def _probes(d: int) -> Array:
    """Return (m, d) rows z for which the sum of z' A z is the trace of A: exactly if d is small, otherwise nearly.

    The estimate uses random signs (Hutchinson 1990), with a fixed seed.
    """
    if d <= _EXACT_TRACE:
        return np.eye(d)
    return np.asarray(np.random.default_rng(0).choice([-1.0, 1.0], size=(_PROBES, d)) / np.sqrt(_PROBES))


def _noise(effective: float, freedom: float) -> float:
    """Leave-one-out mean of (x - m)' inv(scatter / freedom) (x - m), from the effective number of parameters.

    By Sherman and Morrison the leave-one-out value of one embedding is h / (1 - h) times the degrees of freedom,
    where h is its leverage in the scatter. With the mean leverage in place of each individual one, as in generalised
    cross-validation (Golub, Heath and Wahba 1979), the statistics are sufficient: no embedding needs to be stored.
    """
    leverage = min(max(effective / freedom, 0.0), _LARGEST_LEVERAGE)
    return freedom * leverage / (1 - leverage)
