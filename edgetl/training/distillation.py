"""Adds the teacher's part to the loss of a student: its answers and its embeddings (knowledge distillation).

The teacher sees the same augmented image as the student (Beyer et al. 2022, arXiv 2106.05237), so that its answers
are right for this image, even if the label is not.
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
"""Maps pixels 0..255, (m, h, w, 3) float32, to L2-normalised embeddings, (m, d) float32."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """The model that the student was derived from; the student learns its embeddings as well as its answers."""

    model: tf_keras.Model
    """Maps normalised images to embeddings (m, d)."""
    normalization: tuple[float, float]
    """(offset, scale): the model's input is (pixel - offset) / scale."""
    last_layer: TrainableLastLayer
    """Its columns are those of the student's last layer."""

    def embedder(self, scale: float) -> Embed:
        """The function that embeds images during training at `scale` of the model's input size."""
        model, size = copy_for_training(fold(self.model), scale)
        offset, factor = self.normalization

        def embed(images: tf.Tensor) -> tf.Tensor:
            return unit_length(model((_resized(images, size) - offset) / factor, training=False))

        return embed


class DistillationLoss:
    """The loss of a student that learns from labels and from a teacher."""

    def __init__(self, teacher: Teacher, scale: float, options: DistillationOptions) -> None:
        self._embed, self._options = teacher.embedder(scale), options
        self._weights, self._bias = head_of(teacher.last_layer)

    def losses(self, images: tf.Tensor, embeddings: tf.Tensor, logits: tf.Tensor, label_losses: tf.Tensor) -> tf.Tensor:
        """The loss of each image, (m,): from the label, the teacher's answer, and the distance of the embeddings.

        Args:
            images: pixels 0..255, (m, h, w, 3).
            embeddings: the student's, (m, d), L2-normalised.
            logits: the student's, (m, K).
            label_losses: the losses from the labels alone, (m,).
        """
        options = self._options
        target = tf.stop_gradient(self._embed(images))
        answers = tf.nn.softmax((target @ self._weights + self._bias) / options.temperature)
        softened = cross_entropy(answers, logits / options.temperature) * options.temperature**2
        losses = (1 - options.answers) * label_losses + options.answers * softened
        return losses + options.embedding * tf.reduce_sum(tf.math.squared_difference(target, embeddings), axis=1)


def _resized(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    return images if tuple(images.shape[1:3]) == size else tf.image.resize(images, size, antialias=True)
