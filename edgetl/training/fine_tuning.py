"""Fine-tunes a backbone on the user's classes, or trains one from scratch for comparison.

First a linear probe, then fine-tuning (Kumar et al. 2022, arXiv 2202.10054): the head starts from the last layer
solved on the pretrained embeddings, so that the first gradients do not damage the backbone. The head is discarded
at the end; the last layer is solved again on the embeddings of the compiled model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import tf_keras

from edgetl.progress import Progress
from edgetl.training.batch_norm_folding import fold, trainable_copy
from edgetl.training.distillation import Teacher
from edgetl.training.loop import hardware
from edgetl.training.loop.input_pipeline import Frames, Photos
from edgetl.training.loop.network import Network, TrainedLayers
from edgetl.training.loop.training_loop import Run
from edgetl.training.options import FineTuneOptions
from edgetl.training.trainable_last_layer import TrainableLastLayer

MOMENTUM = 0.9
"""Of BatchNorm's running statistics when training from scratch.

With Keras's 0.99, 200 steps leave 13 percent of the random initial values in them, in every layer, and the trained
model guesses at random.
"""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """The result of training."""

    model: tf_keras.Model
    """The best model by validation loss."""
    history: tuple[dict[str, Any], ...]
    """For each epoch: phase, epoch, loss, accuracy and seconds; with validation images also validation_loss and
    validation_accuracy."""
    best_epoch: int
    """The epoch of `model`; 0 is the start."""
    flip: bool
    """Whether images were also shown mirrored."""
    seconds: float


def fine_tune(
    model: tf_keras.Model,
    normalization: tuple[float, float],
    frames: Frames,
    labels: Sequence[int] | np.ndarray,
    training: np.ndarray,
    validation: np.ndarray,
    start: TrainableLastLayer,
    options: Optional[FineTuneOptions] = None,
    progress: Optional[Progress] = None,
    teacher: Optional[Teacher] = None,
    answers: Optional[np.ndarray] = None,
) -> FineTuned:
    """Trains a copy of the backbone: first the upper layers, then all; BatchNorm stays frozen.

    The result is a model with the same input and output, with BatchNorm folded into the convolutions. On CPUs the
    same seed gives the same weights.

    Args:
        model: maps normalised images to embeddings (n, d).
        normalization: (offset, scale): the model's input is (pixel - offset) / scale.
        labels: for each frame, the column of its class in `start`, or NO_LABEL.
        training, validation: indices into `frames`. Without validation images the last epoch is kept.
        start: a last layer for L2-normalised embeddings, solved from the training images alone; otherwise the
            validation is too optimistic.
        progress: receives (what, steps done, steps in all).
        teacher: the model that the backbone was derived from, for distillation.
        answers: (n, K) float32, the probabilities that another model gives for each frame, in the columns of
            `start`; an image labelled NO_LABEL is learned from them alone.

    Raises:
        TrainingError: the loss is infinite or NaN.
        StorageError: the checkpoint cannot be written.
    """
    photos = Photos(frames, np.asarray(labels, np.int32), np.asarray(training), np.asarray(validation), answers)
    trained = TrainedLayers(depthwise_kernels=hardware.has_gpu())
    return _train(fold(model), normalization, photos, start, trained, options or FineTuneOptions(), progress, teacher)


def from_scratch(
    model: tf_keras.Model,
    normalization: tuple[float, float],
    frames: Frames,
    labels: Sequence[int] | np.ndarray,
    training: np.ndarray,
    validation: np.ndarray,
    options: Optional[FineTuneOptions] = None,
    progress: Optional[Progress] = None,
) -> FineTuned:
    """Trains a backbone with random weights for as many epochs as `fine_tune`, to measure the gain from transfer.

    All layers learn from the first step, including BatchNorm, at learning rates that suit training from scratch. Set
    `flip` in the augmentation options: an untrained model cannot determine whether mirrored images keep their class.
    The arguments and errors are those of `fine_tune`.
    """
    photos = Photos(frames, np.asarray(labels, np.int32), np.asarray(training), np.asarray(validation))
    options = _from_scratch_options(options or FineTuneOptions())
    start = _RandomLastLayer.draw(model.output_shape[1], int(photos.labels.max()) + 1, options.seed)
    trained = TrainedLayers(depthwise_kernels=True, batch_normalization=True)
    return _train(_with_fast_batch_norm(model), normalization, photos, start, trained, options, progress)


def _train(
    model: tf_keras.Model,
    normalization: tuple[float, float],
    photos: Photos,
    start: TrainableLastLayer,
    trained: TrainedLayers,
    options: FineTuneOptions,
    progress: Optional[Progress],
    teacher: Optional[Teacher] = None,
) -> FineTuned:
    """Trains `model` in place."""
    started, initial_weights = time.monotonic(), model.get_weights()
    network = Network(model, normalization, start, trained, options, teacher)
    run = Run(network, photos, options, progress)
    run.train()
    model.set_weights(
        [initial + options.kept_share * (best - initial) for initial, best in zip(initial_weights, run.best_weights)]
    )
    return FineTuned(model, tuple(run.history), run.best_epoch, run.flip, time.monotonic() - started)


def _with_fast_batch_norm(model: tf_keras.Model) -> tf_keras.Model:
    """A copy whose BatchNorm statistics follow the activations within some hundred steps."""
    copy = trainable_copy(model, any_size=False)
    for layer in copy.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return copy


def _from_scratch_options(options: FineTuneOptions) -> FineTuneOptions:
    return replace(
        options,
        epochs_upper=0,
        epochs_all=options.epochs,
        patience=options.epochs,
        learning_rate=2e-2,
        head_learning_rate=2e-2,
        lowest_rate=1.0,
        weight_decay=0.0,
        kept_share=1.0,
    )


@dataclass(frozen=True, eq=False)
class _RandomLastLayer:
    """A TrainableLastLayer for training from scratch."""

    weights: np.ndarray
    bias: np.ndarray
    temperature: float

    @classmethod
    def draw(cls, size: int, classes: int, seed: int) -> _RandomLastLayer:
        weights = np.random.default_rng(seed).normal(0, 1 / math.sqrt(size), (size, classes))
        return cls(weights, np.zeros(classes), temperature=0.1)
