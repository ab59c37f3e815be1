"""The last layer during training: a softmax head on the L2-normalised embeddings of the backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf


class TrainableLastLayer(Protocol):
    """A solved last layer that training starts from.

    The probabilities are softmax((embedding @ weights + bias) / temperature), for L2-normalised embeddings.
    """

    @property
    def weights(self) -> np.ndarray:
        """float32 (d, K)."""

    @property
    def bias(self) -> np.ndarray:
        """float32 (K,)."""

    @property
    def temperature(self) -> float:
        """The divisor of the scores before the softmax."""


def head_of(start: TrainableLastLayer) -> list[tf.Variable]:
    """The variables weights (d, K) and bias (K,), divided by the temperature, which map unit embeddings to logits."""
    weights, bias = start.weights / start.temperature, start.bias / start.temperature
    return [tf.Variable(np.float32(weights), name="head"), tf.Variable(np.float32(bias), name="bias")]


def unit_length(embeddings: tf.Tensor) -> tf.Tensor:
    """Raw embeddings (m, d), L2-normalised, as float32."""
    return tf.math.l2_normalize(tf.cast(embeddings, tf.float32), axis=1)


def cross_entropy(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The cross-entropy (m,), in nats, of logits (m, K) with the target probabilities (m, K)."""
    return -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=1)


def label_loss(start: TrainableLastLayer) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The loss of a last layer: (raw embeddings (m, d), label columns (m,)) -> cross-entropies (m,), in nats."""
    weights, bias = head_of(start)

    def losses(embeddings: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = unit_length(embeddings) @ weights + bias
        return cross_entropy(tf.one_hot(labels, logits.shape[1]), logits)

    return losses
