"""Hides how photos reach the network: which, in what order, varied how, and read while it trains; `run` calls it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Protocol

import numpy as np

from edgetl.training.loop import augmentation
from edgetl.training.options import FineTuneOptions

Size = tuple[int, int]

_AHEAD = 2  # batches in memory beside the one in use
_LARGEST_CLASS_WEIGHT = 10.0

NO_LABEL = -1
"""The label of an image of which only a teacher speaks."""

UNLABELLED_AN_EPOCH = 2000
"""At most so many images without a label are shown in an epoch, other ones in each; all others are shown in each."""


class Batch(NamedTuple):
    """Images to train on, and how each is varied; always of the same shapes."""

    frames: np.ndarray  # uint8 (m, h, w, 3)
    labels: np.ndarray  # int32 (m,)
    weights: np.ndarray  # float32 (m,), of their classes
    positions: np.ndarray  # float32 (m, 8), where their pixels come from
    colours: np.ndarray  # float32 (m, 4, 3), what becomes of their colours
    shares: np.ndarray  # float32 (m,), what they keep of themselves when blended
    answers: np.ndarray  # float32 (m, K), what a teacher says that they show; (m, 0) where there is none


class Frames(Protocol):
    """Decoded images of the backbone's input size, read as they are needed."""

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """uint8 (m, h, w, 3), in the order of the indices."""
        ...


@dataclass(frozen=True, eq=False)
class Photos:
    """Frames, their labels as columns (n,) int32, and the indices of those to train on and to validate with.

    `answers` (n, K) float32 are the probabilities that a teacher gives for each image. A training image with answers
    may have NO_LABEL.
    """

    frames: Frames
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    answers: Optional[np.ndarray] = None

    def labelled(self) -> Photos:
        """The same without the training images that have no label."""
        return replace(self, training=self.training[self.labels[self.training] != NO_LABEL])

    def class_weights(self) -> np.ndarray:
        """Per class, so that all weigh the same together and an image one on average; rare ones at most ten."""
        counts = np.bincount(self.labels[self.labelled().training], minlength=int(self.labels.max()) + 1)
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return np.minimum(weights, _LARGEST_CLASS_WEIGHT).astype(np.float32)

    def steps(self, batch_size: int) -> int:
        """Batches an epoch."""
        return math.ceil(self._images_an_epoch() / batch_size)

    def varied_batches(
        self, epoch: int, source: Size, target: Size, flip: bool, options: FineTuneOptions
    ) -> Iterator[Batch]:
        """An epoch's batches. Seed and epoch alone decide them: an interrupted training goes on with the same."""
        count, weights = options.batch_size, self.class_weights()
        rng = np.random.default_rng([options.seed, epoch])
        for indices in np.resize(self._drawn(rng), (self.steps(count), count)):
            positions = augmentation.draw_positions(rng, count, source, target, options.augmentation, flip)
            colours = augmentation.draw_colours(rng, count, options.augmentation)
            shares = augmentation.draw_shares(rng, count, options.augmentation)
            labels = self.labels[indices]
            of_classes = np.where(labels == NO_LABEL, np.float32(0), weights[labels])
            answers = np.empty((count, 0), np.float32) if self.answers is None else self.answers[indices]
            yield Batch(self.frames.batch(indices), labels, of_classes, positions, colours, shares, answers)

    def validation_batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames and labels, as they are."""
        for first in range(0, len(self.validation), batch_size):
            indices = self.validation[first : first + batch_size]
            yield self.frames.batch(indices), self.labels[indices]

    def _images_an_epoch(self) -> int:
        labelled = len(self.labelled().training)
        return labelled + min(len(self.training) - labelled, UNLABELLED_AN_EPOCH)

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """The training images of an epoch in random order, of those without a label no more than there is room for."""
        shuffled = rng.permutation(self.training)
        unlabelled = self.labels[shuffled] == NO_LABEL
        return shuffled[~unlabelled | (np.cumsum(unlabelled) <= UNLABELLED_AN_EPOCH)]


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches in the same order, drawn in a background thread; its errors are raised here.

    A plain thread, not tf.data: its generator data set tells the C library to hand freed memory back at once, for
    the whole process, and the page faults of every later step cost more than the reading.
    """
    with ThreadPoolExecutor(1, "edgetl-batches") as thread:
        waiting: deque[Future[Optional[Batch]]] = deque(thread.submit(next, batches, None) for _ in range(_AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, batches, None))
            yield batch
