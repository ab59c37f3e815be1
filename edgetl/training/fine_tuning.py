"""Stage 2: makes a backbone's embeddings tell the user's classes apart better; `pipeline` calls it.

First a linear probe, then fine-tuning (Kumar et al. 2022, arXiv 2202.10054): the head starts from the last layer
that stage 1 solved, so the first gradients already know what the classes are and spoil nothing. The head is thrown
away at the end; the last layer is solved anew on the embeddings of the compiled model.
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
from edgetl.training.loop.network import Network, Trained
from edgetl.training.loop.training_loop import Run
from edgetl.training.options import FineTuneOptions
from edgetl.training.trainable_last_layer import TrainableLastLayer

MOMENTUM = 0.9
"""Of BatchNorm's running statistics from scratch: with Keras's 0.99, 200 steps leave 13 percent of the random start in
them, in every layer, and what was trained answers by chance."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came of it: the best model by validation, and how it went, epoch by epoch.

    A record of `history` has phase, epoch, loss, accuracy, seconds and, where there were validation images,
    validation_loss and validation_accuracy. `flip` says whether images were also shown mirrored.
    """

    model: tf_keras.Model
    history: tuple[dict[str, Any], ...]
    best_epoch: int
    flip: bool
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
    """Trains a copy of the backbone: the upper layers, then all; BatchNorm stays as it is.

    `model` maps normalised images, (pixel - offset) / scale, to embeddings (n, d). `labels` (all frames) are the
    columns of `start`, a last layer for L2-normalised embeddings; solve it from the training images alone, or
    validation judges it too kindly. `answers` (all frames, K) float32 are what another model says of each image, as
    probabilities in the order of those columns; an image labelled NO_LABEL is learned from them alone. `training` and
    `validation` are indices into all of these; with no validation images the last epoch is kept. The result is a
    model of the same input and output with BatchNorm folded into the convolutions. On CPUs the same seed gives the
    same weights every time. `progress` receives (what, steps done, steps in all). Raises TrainingError where the loss
    is no longer a number and StorageError where the checkpoint cannot be written.
    """
    photos = Photos(frames, np.asarray(labels, np.int32), np.asarray(training), np.asarray(validation), answers)
    trained = Trained(depthwise_kernels=hardware.has_gpu())
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
    """Trains a backbone whose weights are random for as many epochs as `fine_tune`, to see what transfer buys.

    All layers learn from the first step on, BatchNorm too, at rates that suit a start from nothing. `options` should
    say whether to flip: a model that knows nothing cannot.
    """
    photos = Photos(frames, np.asarray(labels, np.int32), np.asarray(training), np.asarray(validation))
    options = _from_nothing(options or FineTuneOptions())
    start = _RandomLastLayer.draw(model.output_shape[1], int(photos.labels.max()) + 1, options.seed)
    trained = Trained(depthwise_kernels=True, batch_normalization=True)
    return _train(_normalizing_quickly(model), normalization, photos, start, trained, options, progress)


def _train(
    model: tf_keras.Model,
    normalization: tuple[float, float],
    photos: Photos,
    start: TrainableLastLayer,
    trained: Trained,
    options: FineTuneOptions,
    progress: Optional[Progress],
    teacher: Optional[Teacher] = None,
) -> FineTuned:
    """Leaves the weights to keep in `model`."""
    started, origins = time.monotonic(), model.get_weights()
    network = Network(model, normalization, start, trained, options, teacher)
    run = Run(network, photos, options, progress)
    run.train()
    model.set_weights(
        [origin + options.kept_share * (best - origin) for origin, best in zip(origins, run.best_weights)]
    )
    return FineTuned(model, tuple(run.history), run.best_epoch, run.flip, time.monotonic() - started)


def _normalizing_quickly(model: tf_keras.Model) -> tf_keras.Model:
    """A copy whose BatchNorms, which start from nothing, know its activations after some hundred steps."""
    copy = trainable_copy(model, any_size=False)
    for layer in copy.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return copy


def _from_nothing(options: FineTuneOptions) -> FineTuneOptions:
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
    weights: np.ndarray
    bias: np.ndarray
    temperature: float

    @classmethod
    def draw(cls, size: int, classes: int, seed: int) -> _RandomLastLayer:
        weights = np.random.default_rng(seed).normal(0, 1 / math.sqrt(size), (size, classes))
        return cls(weights, np.zeros(classes), temperature=0.1)
