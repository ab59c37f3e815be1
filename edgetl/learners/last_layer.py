"""Hides how embeddings become probabilities and novelty; the Classifier, the build and the export call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import IntegrityError
from edgetl.learners.fixed_point import GRID
from edgetl.learners.novelty import NoveltyModel

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The small last layer as plain arrays; immutable, so any number of threads may share one.

    Attributes:
        labels: the K classes, in the order of the columns.
        weights: (d, K) float32.
        bias: (K,) float32.
        temperature: what scores are divided by before the softmax.
        novelty_model: what novelty is measured with.
        solver: the name of the solver that gave the weights.
    """

    labels: tuple[str, ...]
    weights: Floats
    bias: Floats
    temperature: float
    novelty_model: NoveltyModel
    solver: str

    def __post_init__(self) -> None:
        """Raise IntegrityError where the parts do not fit."""
        classes = len(self.labels)
        if classes == 0 or len(set(self.labels)) != classes:
            raise IntegrityError("the last layer's labels are missing or not unique")
        shape = self.weights.shape
        if len(shape) != 2 or shape[0] == 0 or shape[1] != classes or self.bias.shape != (classes,):
            raise IntegrityError(f"the last layer's weights are {shape}; that does not fit {classes} labels")
        if self.novelty_model.weights.shape != shape:
            raise IntegrityError("the last layer's novelty weights are not for the same classes")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise IntegrityError(f"the last layer's temperature is {self.temperature}; it must be above 0")

    @property
    def novelty_threshold(self) -> float:
        """Images with more novelty than this belong to none of the classes."""
        return self.novelty_model.threshold

    def scores(self, grid: NDArray[np.int16]) -> Floats:
        """(n, K) float32 for embeddings (n, d) or (d,) on the grid: grid / GRID @ weights + bias."""
        return np.asarray(unit_length(grid) @ self.weights + self.bias, dtype=np.float32)

    def probabilities(self, grid: NDArray[np.int16]) -> Floats:
        """(n, K) float32 for embeddings (n, d) or (d,) on the grid; each row sums to one."""
        return softmax(self.scores(grid), self.temperature)

    def novelty(self, grid: NDArray[np.int16]) -> Floats:
        """(n,) float32 in 0..1: the share of known images that look less unusual than this one."""
        return self.novelty_model.share(unit_length(grid))

    def predict(self, grid: NDArray[np.int16]) -> tuple[Floats, Floats]:
        """`probabilities` (n, K) and `novelty` (n,), up to float32's rounding, by one product instead of three.

        It is what a device does for every image, with caches that the backbone has just emptied.
        """
        classes = len(self.labels)
        products = np.atleast_2d(grid).astype(np.float32) @ self._columns
        probabilities = softmax(products[:, :classes] + self.bias, self.temperature)
        near, along = products[:, classes : 2 * classes], products[:, 2 * classes :]
        return probabilities, self.novelty_model.share_of(along, near)

    @cached_property
    def _columns(self) -> Floats:
        """(d, 2 K + J) the weights, the novelty's weights and its directions, for embeddings of length GRID."""
        columns = [self.weights, self.novelty_model.weights, self.novelty_model.directions]
        return np.ascontiguousarray(np.concatenate(columns, axis=1) / np.float32(GRID))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the labels and the solver's name, as float32 arrays to store."""
        return {
            "weights": self.weights,
            "bias": self.bias,
            "temperature": np.array([self.temperature], dtype=np.float32),
            "novelty_directions": self.novelty_model.directions,
            "novelty_weights": self.novelty_model.weights,
            "novelty_bias": self.novelty_model.bias,
            "novelty_scales": self.novelty_model.scales,
            "novelty_quantiles": self.novelty_model.quantiles,
            "novelty_threshold": np.array([self.novelty_model.threshold], dtype=np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], labels: Sequence[str], solver: str) -> LastLayer:
        """Build one from what `to_arrays` gave.

        Raises:
            IntegrityError: an array is missing, unknown, of another shape or type, or not finite.
        """
        if set(arrays) != set(_ARRAY_RANKS):
            raise IntegrityError(f"the last layer has arrays {sorted(arrays)}; it needs {sorted(_ARRAY_RANKS)}")
        for name, rank in _ARRAY_RANKS.items():
            _check_array(name, arrays[name], rank)
        return cls(
            labels=tuple(labels),
            weights=arrays["weights"],
            bias=arrays["bias"],
            temperature=_only(arrays, "temperature"),
            novelty_model=NoveltyModel(
                directions=arrays["novelty_directions"],
                weights=arrays["novelty_weights"],
                bias=arrays["novelty_bias"],
                scales=arrays["novelty_scales"],
                quantiles=arrays["novelty_quantiles"],
                threshold=_only(arrays, "novelty_threshold"),
            ),
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


_ARRAY_RANKS = {
    "weights": 2,
    "bias": 1,
    "temperature": 1,
    "novelty_directions": 2,
    "novelty_weights": 2,
    "novelty_bias": 1,
    "novelty_scales": 1,
    "novelty_quantiles": 1,
    "novelty_threshold": 1,
}


def _check_array(name: str, array: Any, rank: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != rank:
        kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise IntegrityError(f"the last layer's {name} is {kind}; it must be float32 with {rank} axes")
    if not np.isfinite(array).all():
        raise IntegrityError(f"the last layer's {name} holds NaN or infinity")


def _only(arrays: Mapping[str, NDArray[Any]], name: str) -> float:
    if arrays[name].shape != (1,):
        raise IntegrityError(f"the last layer's {name} has shape {arrays[name].shape}; it must be one number")
    return float(arrays[name][0])
