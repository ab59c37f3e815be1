"""The last layer as training sees it: a head on the backbone that says what its embeddings are worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf


class TrainableLastLayer(Protocol):
    """What stage 1 solved: scores = L2-normalised embedding @ weights (d, K) + bias (K,), softmax at temperature."""

    @property
    def weights(self) -> np.ndarray:
        """float32 (d, K)."""

    @property
    def bias(self) -> np.ndarray:
        """float32 (K,)."""

    @property
    def temperature(self) -> float:
        """What scores are divided by before the softmax."""


def head_of(start: TrainableLastLayer) -> list[tf.Variable]:
    """Weights (d, K) and bias (K,) that make logits of L2-normalised embeddings, with the temperature in them."""
    weights, bias = start.weights / start.temperature, start.bias / start.temperature
    return [tf.Variable(np.float32(weights), name="head"), tf.Variable(np.float32(bias), name="bias")]


def unit_length(embeddings: tf.Tensor) -> tf.Tensor:
    """Raw embeddings (m, d), L2-normalised, float32."""
    return tf.math.l2_normalize(tf.cast(embeddings, tf.float32), axis=1)


def cross_entropy(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Nats (m,) of logits (m, K) under the probabilities (m, K) that are wanted."""
    return -tf.reduce_sum(wanted * tf.nn.log_softmax(logits), axis=1)


def label_loss(start: TrainableLastLayer) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """What a last layer loses on each image: (raw embeddings (m, d), label columns (m,)) -> nats (m,)."""
    weights, bias = head_of(start)

    def losses(embeddings: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = unit_length(embeddings) @ weights + bias
        return cross_entropy(tf.one_hot(labels, logits.shape[1]), logits)

    return losses
