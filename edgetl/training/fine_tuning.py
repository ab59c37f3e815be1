"""Stage 2: makes a backbone's embeddings tell the user's classes apart better; `pipeline` calls it.

First a linear probe, then fine-tuning (Kumar et al. 2022, arXiv 2202.10054): the head starts from the last layer
that stage 1 solved, so the first gradients already know what the classes are and spoil nothing. The head is thrown
away at the end; the last layer is solved anew on the embeddings of the compiled model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.errors import TrainingError
from edgetl.training import augmentation, checkpoint, hardware
from edgetl.training.feeding import Batch, read_ahead
from edgetl.training.folding import fold, trainable_copy
from edgetl.training.network import LastLayer, Network, Trained
from edgetl.training.options import FineTuneOptions

Progress = Callable[[str, int, int], None]
_LARGEST_CLASS_WEIGHT = 10.0


class Frames(Protocol):
    """Decoded images of the backbone's input size, read as they are needed."""

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """uint8 (m, h, w, 3), in the order of the indices."""
        ...


@dataclass(frozen=True)
class FineTuned:
    """What came of it: the best model by validation, and how it went, epoch by epoch."""

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
    start: LastLayer,
    options: Optional[FineTuneOptions] = None,
    progress: Optional[Progress] = None,
) -> FineTuned:
    """Trains a copy of the backbone: the upper layers, then all; BatchNorm stays as it is.

    `model` maps normalised images, (pixel - offset) / scale, to embeddings (n, d). `labels` (all frames) are the
    columns of `start`, the last layer that was solved on the L2-normalised embeddings. `training` and `validation`
    are indices into both; with no validation images the last epoch is kept. The result is a model of the same input
    and output with BatchNorm folded into the convolutions. The same seed gives the same weights on one machine.
    `progress` receives (what, steps done, steps in all). Raises TrainingError where the loss is no longer a number
    and StorageError where the checkpoint cannot be written.
    """
    folded = fold(model)
    return _train(
        folded,
        Trained(depthwise_kernels=hardware.has_gpu()),
        (normalization, start, options or FineTuneOptions()),
        (frames, np.asarray(labels, np.int32), np.asarray(training), np.asarray(validation)),
        progress,
    )


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
    options = options or FineTuneOptions()
    options = _from_nothing(options)
    labels = np.asarray(labels, np.int32)
    start = _random_last_layer(model.output_shape[1], int(labels.max()) + 1, options.seed)
    return _train(
        trainable_copy(model, any_size=False),
        Trained(depthwise_kernels=True, batch_normalization=True),
        (normalization, start, options),
        (frames, labels, np.asarray(training), np.asarray(validation)),
        progress,
    )


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
    )


@dataclass(frozen=True)
class _RandomLastLayer:
    weights: np.ndarray
    bias: np.ndarray
    temperature: float = 0.1


def _random_last_layer(size: int, classes: int, seed: int) -> _RandomLastLayer:
    rng = np.random.default_rng(seed)
    return _RandomLastLayer(rng.normal(0, 1 / math.sqrt(size), (size, classes)), np.zeros(classes))


def _train(
    model: tf_keras.Model,
    trained: Trained,
    recipe: tuple[tuple[float, float], LastLayer, FineTuneOptions],
    material: tuple[Frames, np.ndarray, np.ndarray, np.ndarray],
    progress: Optional[Progress],
) -> FineTuned:
    """Trains a copy of `model` and leaves the best weights in it."""
    started = time.monotonic()
    strategy = hardware.strategy()
    network = Network(model, *recipe, strategy, hardware.precision(), trained)
    run = _Run(network, *material, recipe[-1], strategy, progress)
    run.train()
    model.set_weights(run.best_weights)
    return FineTuned(model, tuple(run.history), run.best_epoch, run.flip, time.monotonic() - started)


class _Run:
    """One training from its first epoch, or its checkpoint, to its last."""

    def __init__(
        self,
        network: Network,
        frames: Frames,
        labels: np.ndarray,
        training: np.ndarray,
        validation: np.ndarray,
        options: FineTuneOptions,
        strategy: tf.distribute.Strategy,
        progress: Optional[Progress],
    ) -> None:
        self._network, self._frames, self._labels = network, frames, labels
        self._training, self._validation = training, validation
        self._options, self._strategy, self._progress = options, strategy, progress
        self._steps = math.ceil(len(training) / options.batch_size)
        self._weights = _class_weights(labels, training)
        self.history: list[dict[str, Any]] = []
        self.best_weights = network.backbone.get_weights()
        self.best_epoch = 0
        self.flip = bool(options.augmentation.flip)

    def train(self) -> None:
        """Until the last epoch, or until validation no longer improves."""
        if not self._resume():
            self._begin()
        step, upper_only = None, None
        while len(self.history) < self._options.epochs and not self._has_stalled():
            epoch = len(self.history)
            if step is None or upper_only != (epoch < self._options.epochs_upper):
                upper_only = epoch < self._options.epochs_upper
                step = self._network.train_step(upper_only)
            self._train_epoch(epoch, step)
            self._save()

    def _begin(self) -> None:
        """How good the start is, on images as they are and, where asked, on mirrored ones."""
        loss, accuracy = self._validate()
        self._start = {"loss": loss, "accuracy": accuracy}
        if self._options.augmentation.flip is None:
            self.flip = self._mirrored_means_the_same(accuracy)

    def _mirrored_means_the_same(self, accuracy: float) -> bool:
        """Whether validation accuracy on mirrored images is within two standard errors of that on upright ones."""
        count = len(self._validation)
        if not count:
            return False
        _, mirrored = self._validate(mirrored=True)
        error = math.sqrt((accuracy * (1 - accuracy) + mirrored * (1 - mirrored)) / count)
        return mirrored >= accuracy - 2 * max(error, 1 / count)

    def _train_epoch(self, epoch: int, step: Any) -> None:
        started, total, hits = time.monotonic(), 0.0, 0.0
        for number, batch in enumerate(read_ahead(self._batches(epoch))):
            rate = tf.constant(self._learning_rate(epoch * self._steps + number), tf.float32)
            loss, hit = step(hardware.share(self._strategy, batch), rate)
            total, hits = total + float(loss), hits + float(hit)
            self._report("fine-tuning", epoch * self._steps + number + 1, self._options.epochs * self._steps)
        if not math.isfinite(total):
            rate = self._options.learning_rate
            raise TrainingError(f"the loss is no longer a number at learning rate {rate}; choose a smaller one")
        seen = self._steps * self._options.batch_size
        record = {"epoch": epoch + 1, "loss": total / self._steps, "accuracy": hits / seen}
        loss, accuracy = self._validate()
        record |= {"validation_loss": loss, "validation_accuracy": accuracy}
        self.history.append(record | {"seconds": time.monotonic() - started})
        if self._is_best():
            self.best_epoch = epoch + 1
            self.best_weights = self._network.backbone.get_weights()

    def _is_best(self) -> bool:
        losses = [record["validation_loss"] for record in self.history]
        return not len(self._validation) or losses[-1] <= min(losses)

    def _has_stalled(self) -> bool:
        return bool(self.history) and len(self.history) - self.best_epoch >= self._options.patience

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
        steps = self._options.epochs * self._steps
        warmup = max(1, int(steps * self._options.warmup_share))
        if step < warmup:
            return self._options.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return self._options.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches, all of one size: frames, labels, weights, positions and colours."""
        size, chosen = self._options.batch_size, self._options.augmentation
        rng = np.random.default_rng([self._options.seed, epoch])
        for indices in np.resize(rng.permutation(self._training), (self._steps, size)):
            positions = augmentation.draw_positions(
                rng, size, self._network.size, self._network.train_size, chosen, self.flip
            )
            colours = augmentation.draw_colours(rng, size, chosen)
            labels = self._labels[indices]
            yield self._frames.batch(indices), labels, self._weights[labels], positions, colours

    def _validate(self, mirrored: bool = False) -> tuple[float, float]:
        """Balanced loss and accuracy on the validation images; nan where there are none."""
        losses, hits = [], []
        for first in range(0, len(self._validation), self._options.batch_size):
            indices = self._validation[first : first + self._options.batch_size]
            frames, labels = tf.constant(self._frames.batch(indices)), tf.constant(self._labels[indices])
            loss, hit = self._network.evaluate(frames, labels, tf.constant(mirrored))
            losses.append(loss.numpy())
            hits.append(hit.numpy())
        if not losses:
            return math.nan, math.nan
        weights = self._weights[self._labels[self._validation]]
        return (
            float(np.average(np.concatenate(losses), weights=weights)),
            float(np.average(np.concatenate(hits), weights=weights)),
        )

    def _resume(self) -> bool:
        if self._options.checkpoint is None:
            return False
        variables = self._network.state
        values = [variable.numpy() for variable in variables]
        found = checkpoint.load(self._options.checkpoint, [*values, *self.best_weights])
        if found is None:
            return False
        arrays, state = found
        for variable, value in zip(variables, arrays):
            variable.assign(value)
        self.best_weights = arrays[len(variables) :]
        self.history, self.best_epoch, self.flip = state["history"], state["best_epoch"], state["flip"]
        return True

    def _save(self) -> None:
        if self._options.checkpoint is None:
            return
        state = {"history": self.history, "best_epoch": self.best_epoch, "flip": self.flip}
        values = [variable.numpy() for variable in self._network.state]
        checkpoint.save(self._options.checkpoint, [*values, *self.best_weights], state)

    def _report(self, what: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(what, done, total)


def _class_weights(labels: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Per class, so that all weigh the same together and an image one on average; rare ones at most ten."""
    counts = np.bincount(labels[training], minlength=int(labels.max()) + 1)
    weights = len(training) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.minimum(weights, _LARGEST_CLASS_WEIGHT).astype(np.float32)
