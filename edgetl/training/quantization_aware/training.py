"""Quantization-aware training: a backbone learns to give in int8 the embeddings that it gives in float.

`pipeline` repairs a model with it that int8 spoils. The float network is the teacher and its embeddings are all that
is learned, without a label: so nothing that was found about the classes is put at risk, and photos that judge the
last layer have not been trained on for their labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Optional

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.errors import TrainingError
from edgetl.progress import Progress
from edgetl.training.batch_norm_folding import fold
from edgetl.training.loop import augmentation
from edgetl.training.loop.input_pipeline import Batch, Frames, Photos, read_ahead
from edgetl.training.loop.optimizer import RelativeAdam
from edgetl.training.options import FineTuneOptions, QuantizationAwareOptions
from edgetl.training.quantization_aware.fake_quantization import emulate
from edgetl.training.quantization_aware.weight_masks import Preserved


def train_quantization_aware(
    model: tf_keras.Model,
    normalization: tuple[float, float],
    frames: Frames,
    training: np.ndarray,
    options: Optional[QuantizationAwareOptions] = None,
    progress: Optional[Progress] = None,
) -> tf_keras.Model:
    """A float model whose weights stand being rounded to int8; convert it as any other, on the same photos.

    `model` maps normalised images, (pixel - offset) / scale, to embeddings (n, d); `training` are indices into
    `frames`. The result has BatchNorm folded into the convolutions, its kernels the zeros and the clusters that they
    had: what was made easier to compress stays so. On CPUs the same seed gives the same weights.
    `progress` receives (what, steps done, steps in all). Raises TrainingError where the loss is no longer a number.
    """
    options = options or QuantizationAwareOptions()
    student = fold(model)
    offset, scale = normalization

    def calibration() -> Iterator[np.ndarray]:
        chosen = training[: options.calibration_images]
        for first in range(0, len(chosen), options.batch_size):
            pixels = frames.batch(chosen[first : first + options.batch_size])
            yield (pixels.astype(np.float32) - np.float32(offset)) / np.float32(scale)

    emulated = emulate(student, calibration())
    lesson = _Lesson(model, emulated, normalization, options)
    for number, batch in enumerate(read_ahead(_batches(frames, training, lesson.size, options)), start=1):
        loss = lesson.step(batch, _learning_rate((number - 1) / options.steps, options.learning_rate))
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is no longer a number at learning rate {options.learning_rate}; choose a smaller one"
            )
        if progress is not None:
            progress("quantization-aware training", number, options.steps)
    lesson.preserved.settle()
    student.set_weights(emulated.get_weights())
    return student


class _Lesson:
    """Teacher and student, and one compiled step of the student towards the teacher."""

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
        self.preserved = Preserved(student)
        self._optimizer = RelativeAdam(self._variables, [1.0] * len(self._variables), options.weight_decay)

    def step(self, batch: Batch, learning_rate: float) -> float:
        """One step on a batch; its loss, 0 where the embeddings have the same direction."""
        return float(self._step(batch.frames, batch.positions, batch.colours, tf.constant(learning_rate, tf.float32)))

    @tf.function(reduce_retracing=True)
    def _step(self, frames: tf.Tensor, positions: tf.Tensor, colours: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        offset, scale = self._normalization
        images = (augmentation.apply(frames, positions, colours, self.size) - offset) / scale
        wanted = tf.math.l2_normalize(self._teacher(images, training=False), axis=1)
        with tf.GradientTape() as tape:
            given = tf.math.l2_normalize(self._student(images, training=False), axis=1)
            loss = tf.reduce_mean(tf.reduce_sum(tf.square(given - wanted), axis=1))
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, self._variables), self._variables))
        self.preserved.restore()
        return loss


def _batches(
    frames: Frames, training: np.ndarray, size: tuple[int, int], options: QuantizationAwareOptions
) -> Iterator[Batch]:
    """So many batches as there are steps, varied as in fine-tuning; labels play no part."""
    labels = np.zeros(int(training.max()) + 1, np.int32)
    photos = Photos(frames, labels, training, np.array([], np.int64))
    varied = FineTuneOptions(batch_size=options.batch_size, seed=options.seed, augmentation=options.augmentation)
    left, epoch = options.steps, 0
    while left:
        for batch in photos.varied_batches(epoch, size, size, False, varied):
            yield batch
            left -= 1
            if not left:
                return
        epoch += 1


def _learning_rate(done: float, largest: float) -> float:
    """Half a cosine down to zero (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    return largest * (1 + math.cos(math.pi * done)) / 2
