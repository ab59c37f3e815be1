"""Quantization-aware training: a backbone learns to give the embeddings of its float version in int8.

The float network is the teacher, and only its embeddings are learned, without labels. So what fine-tuning learned
about the classes is kept, and the photos that the last layer is measured on stay unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.progress import Progress
from edgetl.training.batch_norm_folding import fold
from edgetl.training.loop import augmentation
from edgetl.training.loop.input_pipeline import Batch, Frames, read_ahead, unlabelled_batches
from edgetl.training.loop.optimizer import RelativeAdam, cosine_decay, require_finite
from edgetl.training.options import QuantizationAwareOptions
from edgetl.training.quantization_aware.fake_quantization import with_fake_quantization
from edgetl.training.quantization_aware.weight_masks import PreservedWeights


def train_quantization_aware(
    model: tf_keras.Model,
    normalization: tuple[float, float],
    frames: Frames,
    training: np.ndarray,
    options: Optional[QuantizationAwareOptions] = None,
    progress: Optional[Progress] = None,
) -> tf_keras.Model:
    """A float model whose weights can be rounded to int8 with little loss; calibrate it with the same photos.

    BatchNorm is folded into the convolutions. Kernels keep their zeros and clusters, so that a compressible model
    stays compressible. On CPUs the same seed gives the same weights.

    Args:
        model: maps normalised images to embeddings (n, d).
        normalization: (offset, scale): the model's input is (pixel - offset) / scale.
        training: indices into `frames` of the photos to train on.
        progress: receives (what, steps done, steps in all).

    Raises:
        TrainingError: the loss is infinite or NaN.
    """
    options = options or QuantizationAwareOptions()
    student = fold(model)
    offset, scale = normalization

    def calibration() -> Iterator[np.ndarray]:
        chosen = training[: options.calibration_images]
        for first in range(0, len(chosen), options.batch_size):
            pixels = frames.batch(chosen[first : first + options.batch_size])
            yield (pixels.astype(np.float32) - np.float32(offset)) / np.float32(scale)

    emulated = with_fake_quantization(student, calibration())
    distiller = _Distiller(model, emulated, normalization, options)
    batches = unlabelled_batches(frames, training, distiller.size, options)
    for number, batch in enumerate(read_ahead(batches), start=1):
        loss = distiller.step(batch, cosine_decay(options.learning_rate, (number - 1) / options.steps))
        require_finite(loss, options.learning_rate)
        if progress is not None:
            progress("quantization-aware training", number, options.steps)
    distiller.preserved.round_to_int8()
    student.set_weights(emulated.get_weights())
    return student


class _Distiller:
    """Trains the student, which emulates int8, to give the teacher's embeddings."""

    def __init__(
        self,
        teacher: tf_keras.Model,
        student: tf_keras.Model,
        normalization: tuple[float, float],
        options: QuantizationAwareOptions,
    ) -> None:
        self.size: tuple[int, int] = student.input_shape[1:3]
        self._teacher, self._student, self._normalization = teacher, student, normalization
        self._variables = student.trainable_variables
        self.preserved = PreservedWeights(student)
        self._optimizer = RelativeAdam(self._variables, [1.0] * len(self._variables), options.weight_decay)

    def step(self, batch: Batch, learning_rate: float) -> float:
        """One training step; returns the loss, the mean squared distance between the unit embeddings."""
        return float(self._step(batch.frames, batch.positions, batch.colours, tf.constant(learning_rate, tf.float32)))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _step(self, frames: tf.Tensor, positions: tf.Tensor, colours: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        offset, scale = self._normalization
        images = (augmentation.apply(frames, positions, colours, self.size) - offset) / scale
        target = tf.math.l2_normalize(self._teacher(images, training=False), axis=1)
        with tf.GradientTape() as tape:
            embeddings = tf.math.l2_normalize(self._student(images, training=False), axis=1)
            loss = tf.reduce_mean(tf.reduce_sum(tf.square(embeddings - target), axis=1))
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, self._variables), self._variables))
        self.preserved.restore()
        return loss
