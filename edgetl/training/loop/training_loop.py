"""Runs one training: epochs, learning rate, validation, early stopping, checkpoints."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from edgetl.progress import Progress
from edgetl.training.loop import checkpoint, hardware
from edgetl.training.loop.input_pipeline import NO_LABEL, Batch, Photos, read_ahead
from edgetl.training.loop.network import Network
from edgetl.training.loop.optimizer import cosine_decay, require_finite
from edgetl.training.options import FineTuneOptions

_SOFTENING_BATCHES = 8


class Run:
    """One training, from its start or its checkpoint to its last epoch.

    After `train`, `best_weights` are the weights after the epoch `best_epoch` (0 is the start), and `history` has a
    record of each epoch.
    """

    def __init__(
        self, network: Network, photos: Photos, options: FineTuneOptions, progress: Optional[Progress]
    ) -> None:
        self._network, self._photos, self._options, self._progress = network, photos, options, progress
        self._steps = photos.steps(options.batch_size)
        self.history: list[dict[str, Any]] = []
        self.best_weights = network.backbone.get_weights()
        self.best_epoch = 0
        self.flip = bool(options.augmentation.flip)

    def train(self) -> None:
        """Trains until the last epoch, or until validation has not improved for `patience` epochs.

        Raises:
            TrainingError: the loss is infinite or NaN.
            StorageError: the checkpoint cannot be written.
        """
        if not self._resume():
            self._begin()
        for upper_only, last in ((True, self._options.epochs_upper), (False, self._options.epochs)):
            if len(self.history) < last and not self._has_stalled():
                self._train_phase(upper_only, last)

    def _begin(self) -> None:
        if self._options.augmentation.flip is None:
            self.flip = self._mirroring_keeps_the_class()
        labelled = self._batches(self._photos.labelled(), epoch=0)
        self._network.soften_head(itertools.islice(labelled, _SOFTENING_BATCHES))

    def _train_phase(self, upper_only: bool, last: int) -> None:
        step = self._network.train_step(upper_only, self._averaged_steps())
        while len(self.history) < last and not self._has_stalled():
            started = time.monotonic()
            phase = "upper layers" if upper_only else "all layers"
            record = {**self._train_epoch(step), **self._validation_record()}
            seconds = time.monotonic() - started
            self.history.append({"phase": phase, "epoch": len(self.history) + 1, **record, "seconds": seconds})
            self._keep_if_best()
            self._save()

    def _averaged_steps(self) -> float:
        return max(1.0, self._options.averaged_share * self._options.epochs * self._steps)

    def _train_epoch(self, step: Any) -> dict[str, float]:
        epoch, loss, hits, labelled = len(self.history), tf.constant(0.0), tf.constant(0.0), 0
        for number, batch in enumerate(read_ahead(self._batches(self._photos, epoch)), epoch * self._steps):
            rate = tf.constant(self._learning_rate(number), tf.float32)
            batch_loss, batch_hits = step(hardware.share(self._network.strategy, batch), rate)
            loss, hits = loss + batch_loss, hits + batch_hits
            labelled += int(np.count_nonzero(batch.labels != NO_LABEL))
            if self._progress is not None:
                self._progress("fine-tuning", number + 1, self._options.epochs * self._steps)
        require_finite(float(loss), self._options.learning_rate)
        return {"loss": float(loss) / self._steps, "accuracy": float(hits) / labelled}

    def _batches(self, photos: Photos, epoch: int) -> Iterator[Batch]:
        network = self._network
        return photos.augmented_batches(epoch, network.size, network.train_size, self.flip, self._options)

    def _learning_rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then a cosine decay."""
        steps = self._options.epochs * self._steps
        warmup = max(1, int(steps * self._options.warmup_share))
        if step < warmup:
            return self._options.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return cosine_decay(self._options.learning_rate, done)

    def _validation_record(self) -> dict[str, float]:
        if not len(self._photos.validation):
            return {}
        loss, accuracy = self._validate()
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def _validate(self, mirrored: bool = False) -> tuple[float, float]:
        """Loss and accuracy on the validation images, with equal weight for all classes."""
        losses, hits = [], []
        for frames, labels in self._photos.validation_batches(self._options.batch_size):
            loss, hit = self._network.evaluate(frames[:, :, ::-1] if mirrored else frames, labels)
            losses.append(loss)
            hits.append(hit)
        weights = self._photos.class_weights()[self._photos.labels[self._photos.validation]]
        return (
            float(np.average(np.concatenate(losses), weights=weights)),
            float(np.average(np.concatenate(hits), weights=weights)),
        )

    def _mirroring_keeps_the_class(self) -> bool:
        """Whether validation accuracy on mirrored images is within two standard errors of that on upright ones."""
        count = len(self._photos.validation)
        if not count:
            return False
        (_, upright), (_, mirrored) = self._validate(), self._validate(mirrored=True)
        error = math.sqrt((upright * (1 - upright) + mirrored * (1 - mirrored)) / count)
        return mirrored >= upright - 2 * max(error, 1 / count)

    def _keep_if_best(self) -> None:
        losses = [record.get("validation_loss", 0.0) for record in self.history]
        if losses[-1] <= min(losses):
            self.best_epoch = len(self.history)
            self.best_weights = self._network.backbone.get_weights()

    def _has_stalled(self) -> bool:
        return len(self.history) - self.best_epoch >= self._options.patience

    def _resume(self) -> bool:
        """Continues from the checkpoint; returns False if there is none that matches."""
        variables = self._network.state
        like = [*(variable.numpy() for variable in variables), *self.best_weights]
        found = checkpoint.load(self._options.checkpoint, like) if self._options.checkpoint else None
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
        arrays = [*(variable.numpy() for variable in self._network.state), *self.best_weights]
        state = {"history": self.history, "best_epoch": self.best_epoch, "flip": self.flip}
        checkpoint.save(self._options.checkpoint, arrays, state)
