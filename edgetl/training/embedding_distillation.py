"""Hides how a changed backbone learns to give the embeddings of the original again; `pipeline` calls it.

No label takes part, so the photos that judge the last layer stay good for that. It trains through Keras's `fit`,
because wrapped models, such as those of tensorflow-model-optimization, do their own work in its callbacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.errors import TrainingError
from edgetl.progress import Progress
from edgetl.training.loop import augmentation
from edgetl.training.loop.input_pipeline import Batch, Frames, Photos, read_ahead
from edgetl.training.loop.optimizer import RelativeAdam
from edgetl.training.options import FineTuneOptions, ImitationOptions
from edgetl.training.trainable_last_layer import unit_length

Size = tuple[int, int]


def imitate(
    student: tf_keras.Model,
    teacher: tf_keras.Model,
    normalization: tuple[float, float],
    frames: Frames,
    training: np.ndarray,
    size: Size,
    options: Optional[ImitationOptions] = None,
    callbacks: Sequence[Any] = (),
    progress: Optional[Progress] = None,
) -> None:
    """Trains `student` in place until its embeddings lie where the teacher's do, on varied photos.

    Both map normalised images, (pixel - offset) / scale, of the (height, width) `size` to embeddings (n, d).
    `training` are indices into `frames`; `callbacks` are Keras's. The same seed gives the same weights on CPUs.
    `progress` receives (what, steps done, steps in all). Raises TrainingError where the loss is no longer a number.
    """
    options = options or ImitationOptions()
    variables = student.trainable_variables
    optimizer = RelativeAdam(variables, [1.0] * len(variables), weight_decay=0.0)
    student.compile(optimizer, _distance, jit_compile=False)
    lessons = _lessons(_batches(frames, training, size, options), teacher, normalization, size)
    course = [*callbacks, _Course(optimizer, options, progress)]
    fitted = student.fit(lessons, steps_per_epoch=options.steps, callbacks=course, verbose=0)
    if not math.isfinite(fitted.history["loss"][-1]):
        rate = options.learning_rate
        raise TrainingError(f"the loss is no longer a number at learning rate {rate}; choose a smaller one")


class _Course(tf_keras.callbacks.Callback):
    """The learning rate, half a cosine down to zero (arXiv 1608.03983), and the progress of every step."""

    def __init__(self, optimizer: RelativeAdam, options: ImitationOptions, progress: Optional[Progress]) -> None:
        super().__init__()
        self._optimizer, self._options, self._progress = optimizer, options, progress

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        largest, done = self._options.learning_rate, batch / self._options.steps
        self._optimizer.learning_rate.assign(largest * (1 + math.cos(math.pi * done)) / 2)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._progress is not None:
            self._progress("imitating", batch + 1, self._options.steps)


def _distance(wanted: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.math.squared_difference(wanted, unit_length(given)), axis=1)


def _lessons(
    batches: Iterator[Batch], teacher: tf_keras.Model, normalization: tuple[float, float], size: Size
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Normalised images (m, h, w, 3) and what the teacher makes of them, L2-normalised (m, d)."""
    offset, scale = normalization

    @tf.function(reduce_retracing=True)
    def lesson(frames: tf.Tensor, positions: tf.Tensor, colours: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = (augmentation.apply(frames, positions, colours, size) - offset) / scale
        return images, unit_length(teacher(images, training=False))

    for batch in read_ahead(batches):
        yield lesson(*map(tf.constant, (batch.frames, batch.positions, batch.colours)))


def _batches(frames: Frames, training: np.ndarray, size: Size, options: ImitationOptions) -> Iterator[Batch]:
    """One epoch after the other, varied as in fine-tuning; labels play no part."""
    labels = np.zeros(int(training.max()) + 1, np.int32)
    photos = Photos(frames, labels, training, np.array([], np.int64))
    varied = FineTuneOptions(batch_size=options.batch_size, seed=options.seed, augmentation=options.augmentation)
    source = frames.batch(training[:1]).shape[1:3]
    for epoch in range(options.epochs(photos.steps(options.batch_size))):
        yield from photos.varied_batches(epoch, source, size, False, varied)
