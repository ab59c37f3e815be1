"""Hides how embeddings become probabilities and novelty; the Classifier, the build and the export call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import IntegrityError
from edgetl.learners.embedding import GRID

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The small last layer as plain arrays; immutable, so any number of threads may share one.

    Attributes:
        labels: the K classes, in the order of the columns.
        weights: (d, K) float32.
        bias: (K,) float32.
        temperature: what scores are divided by before the softmax.
        means: (d, K) float32, the class means scaled to length 1.
        novelty_quantiles: (q,) float32, ascending: how unusual known images look, at even shares of them.
        novelty_threshold: images with more novelty than this belong to none of the classes.
        solver: the name of the solver that gave the weights.
    """

    labels: tuple[str, ...]
    weights: Floats
    bias: Floats
    temperature: float
    means: Floats
    novelty_quantiles: Floats
    novelty_threshold: float
    solver: str

    def __post_init__(self) -> None:
        """Raise IntegrityError where the parts do not fit or hold NaN."""
        classes = len(self.labels)
        if classes == 0 or len(set(self.labels)) != classes:
            raise IntegrityError("the last layer's labels are missing or not unique")
        dimension = self.weights.shape[0] if self.weights.ndim == 2 else 0
        shapes = {"weights": (dimension, classes), "bias": (classes,), "means": (dimension, classes)}
        for name, shape in shapes.items():
            _check_array(name, getattr(self, name), shape)
        _check_array("novelty_quantiles", self.novelty_quantiles, (max(self.novelty_quantiles.size, 2),))
        if dimension == 0 or (np.diff(self.novelty_quantiles) < 0).any():
            raise IntegrityError("the last layer has no weights, or novelty quantiles that do not ascend")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise IntegrityError(f"the last layer's temperature is {self.temperature}; it must be above 0")
        if not 0 <= self.novelty_threshold <= 1:
            raise IntegrityError(f"the novelty threshold is {self.novelty_threshold}; it must be from 0 to 1")

    def scores(self, grid: NDArray[np.int16]) -> Floats:
        """(n, K) float32 for embeddings (n, d) or (d,) on the grid: grid / GRID @ weights + bias."""
        return np.asarray(unit_length(grid) @ self.weights + self.bias, dtype=np.float32)

    def probabilities(self, grid: NDArray[np.int16]) -> Floats:
        """(n, K) float32 for embeddings (n, d) or (d,) on the grid; each row sums to one."""
        return softmax(self.scores(grid), self.temperature)

    def novelty(self, grid: NDArray[np.int16]) -> Floats:
        """(n,) float32 in 0..1: the share of known images that look less unusual than this one."""
        unusual = unusualness(grid, self.means)
        shares = np.linspace(0, 1, len(self.novelty_quantiles))
        return np.interp(unusual, self.novelty_quantiles, shares).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the labels and the solver's name, as arrays to store."""
        return {
            "weights": self.weights,
            "bias": self.bias,
            "temperature": np.array([self.temperature], dtype=np.float32),
            "means": self.means,
            "novelty_quantiles": self.novelty_quantiles,
            "novelty_threshold": np.array([self.novelty_threshold], dtype=np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], labels: Sequence[str], solver: str) -> LastLayer:
        """Build one from what `to_arrays` gave.

        Raises:
            IntegrityError: an array is missing, unknown, of another shape or type, or not finite.
        """
        if set(arrays) != _ARRAYS:
            raise IntegrityError(f"the last layer has arrays {sorted(arrays)}; it needs {sorted(_ARRAYS)}")
        for name in ("temperature", "novelty_threshold"):
            _check_array(name, arrays[name], (1,))
        return cls(
            labels=tuple(labels),
            weights=arrays["weights"],
            bias=arrays["bias"],
            temperature=float(arrays["temperature"][0]),
            means=arrays["means"],
            novelty_quantiles=arrays["novelty_quantiles"],
            novelty_threshold=float(arrays["novelty_threshold"][0]),
            solver=solver,
        )


def softmax(scores: Floats, temperature: float) -> Floats:
    """Turn scores (n, K) into probabilities (n, K), without overflow."""
    shifted = (scores - scores.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def unit_length(grid: NDArray[np.int16]) -> Floats:
    """(n, d) float32 of length 1, for embeddings (n, d) or (d,) on the grid."""
    return np.atleast_2d(grid).astype(np.float32) / np.float32(GRID)


def unusualness(grid: NDArray[np.int16], means: Floats) -> Floats:
    """(n,) float32: one minus the cosine to the nearest class mean, for embeddings on the grid."""
    return np.asarray(1 - (unit_length(grid) @ means).max(axis=1), dtype=np.float32)


_ARRAYS = {"weights", "bias", "temperature", "means", "novelty_quantiles", "novelty_threshold"}


def _check_array(name: str, array: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.shape != shape:
        kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise IntegrityError(f"the last layer's {name} is {kind}; it must be float32 {shape}")
    if not np.isfinite(array).all():
        raise IntegrityError(f"the last layer's {name} holds NaN or infinity")
