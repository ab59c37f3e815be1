"""Trains a modified backbone to reproduce the embeddings of the original, without labels.

Because labels are not used, the photos that the last layer is measured on stay unbiased. Training runs through
Keras's `fit`, because wrapped models, e.g. those of tensorflow-model-optimization, need its callbacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.progress import Progress
from edgetl.training.loop import augmentation
from edgetl.training.loop.input_pipeline import Batch, Frames, read_ahead, unlabelled_batches
from edgetl.training.loop.optimizer import RelativeAdam, cosine_decay, require_finite
from edgetl.training.options import ImitationOptions
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
    """Trains `student`, in place, to give the teacher's embeddings on augmented photos.

    The same seed gives the same weights on CPUs.

    Args:
        student, teacher: map normalised images of `size` to embeddings (n, d).
        normalization: (offset, scale): the models' input is (pixel - offset) / scale.
        training: indices into `frames` of the photos to train on.
        size: (height, width) of the images.
        callbacks: Keras callbacks for `fit`.
        progress: receives (what, steps done, steps in all).

    Raises:
        TrainingError: the loss is infinite or NaN.
    """
    options = options or ImitationOptions()
    variables = student.trainable_variables
    optimizer = RelativeAdam(variables, [1.0] * len(variables), weight_decay=0.0)
    student.compile(optimizer, _distance, jit_compile=False)
    targets = _targets(unlabelled_batches(frames, training, size, options), teacher, normalization, size)
    callbacks = [*callbacks, _Schedule(optimizer, options, progress)]
    fitted = student.fit(targets, steps_per_epoch=options.steps, callbacks=callbacks, verbose=0)
    require_finite(fitted.history["loss"][-1], options.learning_rate)


class _Schedule(tf_keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate, half a cosine down to zero (arXiv 1608.03983), and reports progress."""

    def __init__(self, optimizer: RelativeAdam, options: ImitationOptions, progress: Optional[Progress]) -> None:
        super().__init__()
        self._optimizer, self._options, self._progress = optimizer, options, progress

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        largest, done = self._options.learning_rate, batch / self._options.steps
        self._optimizer.learning_rate.assign(cosine_decay(largest, done))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._progress is not None:
            self._progress("distilling embeddings", batch + 1, self._options.steps)


def _distance(target: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.math.squared_difference(target, unit_length(embeddings)), axis=1)


def _targets(
    batches: Iterator[Batch], teacher: tf_keras.Model, normalization: tuple[float, float], size: Size
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields normalised images (m, h, w, 3) with the teacher's embeddings of them, (m, d), L2-normalised."""
    offset, scale = normalization

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def images_and_targets(frames: tf.Tensor, positions: tf.Tensor, colours: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = (augmentation.apply(frames, positions, colours, size) - offset) / scale
        return images, unit_length(teacher(images, training=False))

    for batch in read_ahead(batches):
        yield images_and_targets(*map(tf.constant, (batch.frames, batch.positions, batch.colours)))
