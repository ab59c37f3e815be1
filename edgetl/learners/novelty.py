"""Measures how unlike every known class an image looks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import IntegrityError
from edgetl.learners.moments import Directions

Floats = NDArray[np.float32]

THRESHOLD = 0.98
"""The share of known images, 0 to 1, that a new last layer accepts as known."""

SHRINKAGE = "oas"
"""The shrinkage of the covariance for novelty, if the solver has no shrinkage of its own."""


@dataclass(frozen=True, eq=False)
class NoveltyModel:
    """The distance of an embedding from the nearest class, compared with the distances of known images.

    For an embedding x and a class, two squared distances are added, each divided by its spread over known images:
    the distance between x and the class mean, and the same distance after whitening, within the space that the class
    means span. The first detects foreign images, the second images between the classes; benchmarks/novelty.py
    compares them with other scores. The least sum over the classes counts. Expanded, it is
    |x directions|^2 - max_k(x weights + bias)_k.

    Attributes:
        directions: (d, J) float32, J < K.
        weights: (d, K) float32.
        bias: (K,) float32.
        scales: (2,) float32, the spreads of the whitened and of the plain distance.
        quantiles: (q,) float32, ascending: the least sum at evenly spaced quantiles of known images.
        threshold: the share of known images that pass as known, 0 to 1.

    Raises:
        IntegrityError: the arrays do not fit together.
    """

    directions: Floats
    weights: Floats
    bias: Floats
    scales: Floats
    quantiles: Floats
    threshold: float

    def __post_init__(self) -> None:
        """Raise IntegrityError if the arrays do not fit together."""
        classes, width = len(self.bias), len(self.weights)
        fits = self.weights.shape == (width, classes) and self.directions.shape[:1] == (width,)
        if not (fits and self.directions.ndim == 2 and self.directions.shape[1] < max(classes, 1)):
            raise IntegrityError("the last layer's novelty arrays do not fit together")
        if self.scales.shape != (2,) or not (self.scales > 0).all():
            raise IntegrityError("the last layer's novelty scales must be two numbers above 0")
        if self.quantiles.ndim != 1 or len(self.quantiles) < 2 or (np.diff(self.quantiles) < 0).any():
            raise IntegrityError("the last layer's novelty quantiles must be two numbers or more, in ascending order")
        if not 0 <= self.threshold <= 1:
            raise IntegrityError(f"the novelty threshold is {self.threshold}; it must be from 0 to 1")

    @classmethod
    def of(cls, directions: Directions, scales: Floats, quantiles: Floats, threshold: float) -> NoveltyModel:
        """Combine the geometry of the classes with the scales and quantiles of known images."""
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

    def for_classes(self, directions: Directions) -> NoveltyModel:
        """Return the model of other classes, with the same scales and quantiles."""
        return NoveltyModel.of(directions, self.scales, self.quantiles, self.threshold)

    def share(self, unit: Floats) -> Floats:
        """Return (n,) float32: the share of known images that look less unusual than embeddings (n, d) of length 1."""
        return self.share_of(unit @ self.directions, unit @ self.weights)

    def share_of(self, along: Floats, near: Floats) -> Floats:
        """Return the same from the embeddings' products with `directions` (n, J) and with `weights` (n, K)."""
        unusual = (along * along).sum(axis=1) - (near + self.bias).max(axis=1)
        return np.asarray(np.interp(unusual, self.quantiles, self._shares), dtype=np.float32)

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        return np.linspace(0, 1, len(self.quantiles))


@dataclass(frozen=True, eq=False)
class Span:
    """The class means, and the space that they span after whitening by the covariance within classes.

    Attributes:
        axes: (d, J), maps an embedding into that space.
        anchors: (K, J), the class means in that space.
        means: (K, d), the class means.
    """

    axes: NDArray[Any]
    anchors: NDArray[Any]
    means: NDArray[Any]

    @classmethod
    def of(cls, directions: Directions) -> Span:
        """Find the space; it has at most K - 1 dimensions."""
        values, vectors = np.linalg.eigh(directions.products)
        real = values > max(values[-1], 0) * _VANISHING
        real[0] = False
        axes = directions.vectors @ (vectors[:, real] / np.sqrt(values[real]))
        return cls(axes, directions.means @ axes, directions.means)

    def whitened(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return (n, K) squared distances within the space, from embeddings (n, d) to the class means."""
        return squared_distances(rows @ self.axes, self.anchors)

    def plain(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return (n, K) squared distances from embeddings (n, d) to the class means."""
        return squared_distances(rows, self.means)


def squared_distances(rows: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Return (n, K) squared distances between rows (n, d) and points (K, d)."""
    squares = (rows * rows).sum(axis=1)[:, None] + (points * points).sum(axis=1)
    return np.asarray(squares - 2 * (rows @ points.T))


_VANISHING = 1e-9
