"""Turns embeddings into probabilities and novelty with the arrays of a last layer."""

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
    """The last layer as plain arrays. Immutable, so threads may share it.

    Attributes:
        labels: the K classes, in the order of the columns of `weights`.
        weights: (d, K) float32.
        bias: (K,) float32.
        temperature: scores are divided by it before the softmax; above 0.
        novelty_model: measures novelty.
        solver: the name of the solver that computed the weights.

    Raises:
        IntegrityError: the arrays do not fit together.
    """

    labels: tuple[str, ...]
    weights: Floats
    bias: Floats
    temperature: float
    novelty_model: NoveltyModel
    solver: str

    def __post_init__(self) -> None:
        """Raise IntegrityError if the arrays do not fit together."""
        classes = len(self.labels)
        if classes == 0 or len(set(self.labels)) != classes:
            raise IntegrityError("the last layer's labels are missing or not unique")
        shape = self.weights.shape
        if len(shape) != 2 or shape[0] == 0 or shape[1] != classes or self.bias.shape != (classes,):
            raise IntegrityError(f"the last layer's weights have shape {shape}, which does not fit {classes} labels")
        if self.novelty_model.weights.shape != shape:
            raise IntegrityError("the last layer's novelty weights do not have the shape of its weights")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise IntegrityError(f"the last layer's temperature is {self.temperature}; it must be above 0")

    @property
    def novelty_threshold(self) -> float:
        """An image whose novelty is above this, 0 to 1, is reported as unlike every class."""
        return self.novelty_model.threshold

    def scores(self, embeddings: NDArray[np.int16]) -> Floats:
        """Return (n, K) float32 for fixed-point embeddings (n, d) or (d,): embeddings / GRID @ weights + bias."""
        return np.asarray(unit_length(embeddings) @ self.weights + self.bias, dtype=np.float32)

    def probabilities(self, embeddings: NDArray[np.int16]) -> Floats:
        """Return (n, K) float32 for fixed-point embeddings (n, d) or (d,); each row sums to 1."""
        return softmax(self.scores(embeddings), self.temperature)

    def novelty(self, embeddings: NDArray[np.int16]) -> Floats:
        """Return (n,) float32, 0 to 1: the share of known images that look less unusual than each embedding."""
        return self.novelty_model.share(unit_length(embeddings))

    def predict(self, embeddings: NDArray[np.int16]) -> tuple[Floats, Floats]:
        """Return `probabilities` (n, K) and `novelty` (n,), up to float32's rounding.

        One matrix product instead of three: a device calls this for every image, just after the backbone has
        emptied the processor's caches.
        """
        classes = len(self.labels)
        products = np.atleast_2d(embeddings).astype(np.float32) @ self._columns
        probabilities = softmax(products[:, :classes] + self.bias, self.temperature)
        near, along = products[:, classes : 2 * classes], products[:, 2 * classes :]
        return probabilities, self.novelty_model.share_of(along, near)

    @cached_property
    def _columns(self) -> Floats:
        """(d, 2 K + J) float32: weights, novelty weights and novelty directions, for embeddings of length GRID."""
        columns = [self.weights, self.novelty_model.weights, self.novelty_model.directions]
        return np.ascontiguousarray(np.concatenate(columns, axis=1) / np.float32(GRID))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything but the labels and the solver's name as float32 arrays, by name."""
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
        """Make a last layer from arrays in the form of `to_arrays`.

        Raises:
            IntegrityError: an array is missing, unknown, not finite, or has another shape or dtype.
        """
        if set(arrays) != set(_ARRAY_RANKS):
            raise IntegrityError(f"the last layer has the arrays {sorted(arrays)}; expected {sorted(_ARRAY_RANKS)}")
        for name, rank in _ARRAY_RANKS.items():
            _check_array(name, arrays[name], rank)
        return cls(
            labels=tuple(labels),
            weights=arrays["weights"],
            bias=arrays["bias"],
            temperature=_scalar(arrays, "temperature"),
            novelty_model=NoveltyModel(
                directions=arrays["novelty_directions"],
                weights=arrays["novelty_weights"],
                bias=arrays["novelty_bias"],
                scales=arrays["novelty_scales"],
                quantiles=arrays["novelty_quantiles"],
                threshold=_scalar(arrays, "novelty_threshold"),
            ),
            solver=solver,
        )


def softmax(scores: Floats, temperature: float) -> Floats:
    """Turn scores (n, K) into probabilities (n, K) float32, without overflow."""
    shifted = (scores - scores.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def unit_length(embeddings: NDArray[np.int16]) -> Floats:
    """Return (n, d) float32 of length 1 for fixed-point embeddings (n, d) or (d,)."""
    return np.atleast_2d(embeddings).astype(np.float32) / np.float32(GRID)


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
        raise IntegrityError(f"the last layer's {name} is {kind}; expected float32 of rank {rank}")
    if not np.isfinite(array).all():
        raise IntegrityError(f"the last layer's {name} contains NaN or infinity")


def _scalar(arrays: Mapping[str, NDArray[Any]], name: str) -> float:
    if arrays[name].shape != (1,):
        raise IntegrityError(f"the last layer's {name} has shape {arrays[name].shape}; expected (1,)")
    return float(arrays[name][0])
