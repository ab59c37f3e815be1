"""Hides what a changed backbone learns from the one it was made from, beside the labels; `network` adds it to the loss.

The teacher sees the very image that the student sees, moved, recoloured and blended (Beyer et al. 2022, arXiv
2106.05237), so its answers are right for that image, where the label may not be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from edgetl.training.batch_norm_folding import copy_for_training, fold
from edgetl.training.options import DistillationOptions
from edgetl.training.trainable_last_layer import TrainableLastLayer, cross_entropy, head_of, unit_length

Embed = Callable[[tf.Tensor], tf.Tensor]
"""Pixels 0..255 (m, h, w, 3) to L2-normalised embeddings (m, d)."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """The model that the student was made from: its embeddings are learned too, not only its answers.

    `model` maps images, (pixel - offset) / scale by its `normalization`, to embeddings; `last_layer` has a column
    for each of the student's.
    """

    model: tf_keras.Model
    normalization: tuple[float, float]
    last_layer: TrainableLastLayer

    def embedder(self, scale: float) -> Embed:
        """How it embeds images of a training at `scale` of the own size."""
        model, size = copy_for_training(fold(self.model), scale)
        offset, factor = self.normalization

        def embed(images: tf.Tensor) -> tf.Tensor:
            return unit_length(model((_resized(images, size) - offset) / factor, training=False))

        return embed


class Lesson:
    """The teacher's part of the loss."""

    def __init__(self, teacher: Teacher, scale: float, options: DistillationOptions) -> None:
        self._embed, self._options = teacher.embedder(scale), options
        self._weights, self._bias = head_of(teacher.last_layer)

    def losses(self, images: tf.Tensor, embeddings: tf.Tensor, logits: tf.Tensor, label_losses: tf.Tensor) -> tf.Tensor:
        """Of each image, (m,): what the labels say, what the teacher answers, and how far its embedding is.

        `images` are pixels 0..255 (m, h, w, 3), `embeddings` (m, d) the student's, L2-normalised.
        """
        options = self._options
        known = tf.stop_gradient(self._embed(images))
        answers = tf.nn.softmax((known @ self._weights + self._bias) / options.temperature)
        softened = cross_entropy(answers, logits / options.temperature) * options.temperature**2
        losses = (1 - options.answers) * label_losses + options.answers * softened
        return losses + options.embedding * tf.reduce_sum(tf.math.squared_difference(known, embeddings), axis=1)


def _resized(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    return images if tuple(images.shape[1:3]) == size else tf.image.resize(images, size, antialias=True)
