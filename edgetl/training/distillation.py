"""Hides what a student learns from a teacher beside the labels; `network` adds it to the loss.

The teacher sees the very image that the student sees, moved, recoloured and blended (Beyer et al. 2022, arXiv
2106.05237), so its answers are right for that image, where the label may not be.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from edgetl.training.folding import copy_for_training, fold
from edgetl.training.last_layer import LastLayer, cross_entropy, head_of, unit_length
from edgetl.training.options import DistillationOptions


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model that knows the student's classes, of any architecture.

    `model` maps images, (pixel - offset) / scale by its `normalization`, to embeddings; `last_layer` has a column
    for each of the student's.
    """

    model: tf_keras.Model
    normalization: tuple[float, float]
    last_layer: LastLayer


class Lesson:
    """The teacher's part of the loss."""

    def __init__(self, teacher: Teacher, scale: float, options: DistillationOptions) -> None:
        self._model, self._size = copy_for_training(fold(teacher.model), scale)
        self._normalization, self._options = teacher.normalization, options
        self._weights, self._bias = head_of(teacher.last_layer)

    def losses(
        self, images: tf.Tensor, embeddings: tf.Tensor, logits: tf.Tensor, label_losses: tf.Tensor
    ) -> tf.Tensor:
        """Of each image, (m,): what the labels say, what the teacher answers, and how far its embedding is.

        `images` are pixels 0..255 (m, h, w, 3), `embeddings` (m, d) the student's, L2-normalised.
        """
        options = self._options
        known = self._embed(images)
        answers = tf.nn.softmax((known @ self._weights + self._bias) / options.temperature)
        softened = cross_entropy(answers, logits / options.temperature) * options.temperature**2
        losses = (1 - options.answers) * label_losses + options.answers * softened
        if known.shape[1] == embeddings.shape[1]:
            losses += options.embedding * tf.reduce_sum(tf.math.squared_difference(known, embeddings), axis=1)
        return losses

    def _embed(self, images: tf.Tensor) -> tf.Tensor:
        offset, scale = self._normalization
        if tuple(images.shape[1:3]) != self._size:
            images = tf.image.resize(images, self._size, antialias=True)
        return tf.stop_gradient(unit_length(self._model((images - offset) / scale, training=False)))
