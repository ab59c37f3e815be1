"""Softmax regression by gradient descent with replay of stored embeddings, for comparison with the exact solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners.fixed_point import GRID
from edgetl.learners.last_layer import Floats, softmax


@dataclass(frozen=True)
class SoftmaxOptions:
    """Options of gradient descent.

    Attributes:
        replay: embeddings of each class that are kept and mixed into later learning; 0 keeps none.
        epochs: passes over the embeddings in each call of `learn`.
        batch_size: embeddings per gradient step.
        learning_rate: initial rate of stochastic gradient descent with momentum 0.9, for embeddings of length 1; it
            decays to 0 along a cosine.
        decay: weight decay, per gradient step and unit of learning rate.
        seed: of shuffling, and of choosing the embeddings that are kept.
    """

    replay: int = 20
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1.0
    decay: float = 1e-4
    seed: int = 0


class SoftmaxRegression:
    """A last layer that learns by gradient descent. It may forget classes that it does not replay."""

    def __init__(self, options: SoftmaxOptions = SoftmaxOptions()) -> None:
        self.options = options
        self._random = np.random.default_rng(options.seed)
        self._labels: list[str] = []
        self._kept: dict[str, Floats] = {}
        self._weights = np.zeros((0, 0), dtype=np.float32)
        self._bias = np.zeros(0, dtype=np.float32)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order in which they were first seen."""
        return tuple(self._labels)

    def learn(self, embeddings: NDArray[np.int16], labels: Sequence[str]) -> None:
        """Take gradient steps on fixed-point embeddings (n, d) with their n labels, and on the replayed ones.

        Raises:
            LearningError: sizes that do not fit.
        """
        if embeddings.ndim != 2 or len(embeddings) != len(labels) or not len(labels):
            raise LearningError(f"received embeddings {embeddings.shape} with {len(labels)} labels; give one for each")
        unit = embeddings.astype(np.float32) / np.float32(GRID)
        self._add_classes(unit.shape[1], labels)
        replayed = [(name, rows) for name, rows in self._kept.items() if len(rows)]
        rows = np.concatenate([unit, *(kept for _, kept in replayed)])
        names = [*labels, *(name for name, kept in replayed for _ in kept)]
        column_of = {name: column for column, name in enumerate(self._labels)}
        self._descend(rows, np.array([column_of[name] for name in names]))
        self._keep(unit, labels)

    def scores(self, embeddings: NDArray[np.int16]) -> Floats:
        """Return (n, K) float32 for fixed-point embeddings (n, d)."""
        return np.asarray(embeddings.astype(np.float32) / np.float32(GRID) @ self._weights + self._bias)

    def _add_classes(self, dimension: int, labels: Sequence[str]) -> None:
        new = [name for name in dict.fromkeys(labels) if name not in self._labels]
        if not self._labels:
            self._weights = np.zeros((dimension, 0), dtype=np.float32)
        self._labels += new
        self._weights = np.pad(self._weights, ((0, 0), (0, len(new))))
        self._bias = np.pad(self._bias, (0, len(new)))

    def _descend(self, rows: Floats, y: NDArray[np.int64]) -> None:
        options = self.options
        onehot = np.eye(len(self._labels), dtype=np.float32)
        velocity_weights, velocity_bias = np.zeros_like(self._weights), np.zeros_like(self._bias)
        for epoch in range(options.epochs):
            rate = options.learning_rate * (1 + np.cos(np.pi * epoch / options.epochs)) / 2
            order = self._random.permutation(len(rows))
            for start in range(0, len(order), options.batch_size):
                batch = order[start : start + options.batch_size]
                error = softmax(rows[batch] @ self._weights + self._bias, 1.0) - onehot[y[batch]]
                error /= len(batch)
                gradient = rows[batch].T @ error + options.decay * self._weights
                velocity_weights = 0.9 * velocity_weights - np.float32(rate) * gradient
                velocity_bias = 0.9 * velocity_bias - np.float32(rate) * error.sum(axis=0)
                self._weights = self._weights + velocity_weights
                self._bias = self._bias + velocity_bias

    def _keep(self, unit: Floats, labels: Sequence[str]) -> None:
        names = np.asarray(labels)
        for name in dict.fromkeys(labels):
            rows = unit[names == name]
            if name in self._kept:
                rows = np.concatenate([self._kept[name], rows])
            chosen = self._random.permutation(len(rows))[: self.options.replay]
            self._kept[name] = rows[np.sort(chosen)]
