"""Hides how unlike everything known an image looks; the last layer and the selection call it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import IntegrityError
from edgetl.learners.moments import Directions

Floats = NDArray[np.float32]

SHRINKAGE = "oas"
"""Of the covariance that novelty is measured with, where the solver has none of its own."""


@dataclass(frozen=True, eq=False)
class NoveltyModel:
    """How far an embedding lies from the nearest class, against what is usual for known images.

    Two squared distances are added, each in units of its own spread over known images: the one between x and
    the class mean, and the one that is left of it, whitened, in the space that the class means span. The first
    finds what is foreign, the second what lies between the classes; benchmarks/novelty.py compares them with
    other scores. Expanded, the sum is |x directions|^2 - max_k(x weights + bias)_k.

    Attributes:
        directions: (d, J) float32, J < K.
        weights: (d, K) float32.
        bias: (K,) float32.
        scales: (2,) float32, the spreads of both distances.
        quantiles: (q,) float32, ascending: the sum at even shares of known images.
        threshold: the share of known images that pass as known, 0 to 1.
    """

    directions: Floats
    weights: Floats
    bias: Floats
    scales: Floats
    quantiles: Floats
    threshold: float

    def __post_init__(self) -> None:
        """Raise IntegrityError where the parts do not fit."""
        classes, width = len(self.bias), len(self.weights)
        fits = self.weights.shape == (width, classes) and self.directions.shape[:1] == (width,)
        if not (fits and self.directions.ndim == 2 and self.directions.shape[1] < max(classes, 1)):
            raise IntegrityError("the last layer's novelty arrays do not fit together")
        if self.scales.shape != (2,) or not (self.scales > 0).all():
            raise IntegrityError("the last layer's novelty scales are not two numbers above 0")
        if self.quantiles.ndim != 1 or len(self.quantiles) < 2 or (np.diff(self.quantiles) < 0).any():
            raise IntegrityError("the last layer's novelty quantiles do not ascend")
        if not 0 <= self.threshold <= 1:
            raise IntegrityError(f"the novelty threshold is {self.threshold}; it must be from 0 to 1")

    @classmethod
    def of(cls, directions: Directions, scales: Floats, quantiles: Floats, threshold: float) -> NoveltyModel:
        """Combine the geometry of the classes with what was found usual."""
        span = Span.of(directions)
        whitened, plain = 1.0 / scales.astype(np.float64)
        weights = 2 * (span.axes @ span.anchors.T * whitened + span.means.T * plain)
        squares = (span.anchors**2).sum(axis=1) * whitened + (1 + (span.means**2).sum(axis=1)) * plain
        return cls(
            directions=np.ascontiguousarray(span.axes * np.sqrt(whitened), dtype=np.float32),
            weights=np.ascontiguousarray(weights, dtype=np.float32),
            bias=(-squares).astype(np.float32),
            scales=scales,
            quantiles=quantiles,
            threshold=threshold,
        )

    def following(self, directions: Directions) -> NoveltyModel:
        """The same scales and quantiles for classes that have changed."""
        return NoveltyModel.of(directions, self.scales, self.quantiles, self.threshold)

    def share(self, unit: Floats) -> Floats:
        """(n,) float32: the share of known images that look less unusual than embeddings (n, d) of length 1."""
        return self.share_of(unit @ self.directions, unit @ self.weights)

    def share_of(self, along: Floats, near: Floats) -> Floats:
        """The same, from what embeddings (n, d) of length 1 give with `directions` (n, J) and `weights` (n, K)."""
        unusual = (along * along).sum(axis=1) - (near + self.bias).max(axis=1)
        return np.interp(unusual, self.quantiles, self._shares).astype(np.float32)

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        return np.linspace(0, 1, len(self.quantiles))


@dataclass(frozen=True, eq=False)
class Span:
    """The class means, and the space that they span with the covariance within classes made round.

    Attributes:
        axes: (d, J) what takes an embedding into that space.
        anchors: (K, J) where it takes the class means.
        means: (K, d) the class means.
    """

    axes: NDArray[Any]
    anchors: NDArray[Any]
    means: NDArray[Any]

    @classmethod
    def of(cls, directions: Directions) -> Span:
        """Find the space; it has at most one dimension less than there are classes."""
        values, vectors = np.linalg.eigh(directions.products)
        real = values > max(values[-1], 0) * _VANISHING
        real[0] = False
        axes = directions.vectors @ (vectors[:, real] / np.sqrt(values[real]))
        return cls(axes, directions.means @ axes, directions.means)

    def whitened(self, rows: NDArray[Any]) -> NDArray[Any]:
        """(n, K) squared distances within the space, from embeddings (n, d) to the class means."""
        return squared_distances(rows @ self.axes, self.anchors)

    def plain(self, rows: NDArray[Any]) -> NDArray[Any]:
        """(n, K) squared distances from embeddings (n, d) to the class means."""
        return squared_distances(rows, self.means)


def squared_distances(rows: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """(n, K) squared distances between rows (n, d) and points (K, d)."""
    squares = (rows * rows).sum(axis=1)[:, None] + (points * points).sum(axis=1)
    return np.asarray(squares - 2 * (rows @ points.T))


_VANISHING = 1e-9
