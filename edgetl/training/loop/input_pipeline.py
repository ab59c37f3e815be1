"""Draws and augments the training batches, and reads them ahead while the network trains."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Protocol

import numpy as np

from edgetl.training.loop import augmentation
from edgetl.training.options import EmbeddingTrainingOptions, FineTuneOptions

Size = tuple[int, int]

_AHEAD = 2  # batches in memory besides the one in use
_LARGEST_CLASS_WEIGHT = 10.0

NO_LABEL = -1
"""The label of an image without one, which is learned from a teacher's answers alone."""

UNLABELLED_PER_EPOCH = 2000
"""An epoch shows at most this many images without a label, chosen at random, and all images with one."""


class Batch(NamedTuple):
    """Images to train on, with their augmentation; all batches have the same shapes."""

    frames: np.ndarray  # uint8 (m, h, w, 3)
    labels: np.ndarray  # int32 (m,)
    weights: np.ndarray  # float32 (m,), the weights of their classes; 0 without a label
    positions: np.ndarray  # float32 (m, 8), see augmentation.draw_positions
    colours: np.ndarray  # float32 (m, 4, 3), see augmentation.draw_colours
    shares: np.ndarray  # float32 (m,), see augmentation.draw_shares
    answers: np.ndarray  # float32 (m, K), a teacher's probabilities; (m, 0) without a teacher


class Frames(Protocol):
    """Decoded images of the backbone's input size, read when they are needed."""

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The frames of these indices, in their order, (m, h, w, 3) uint8."""
        ...


@dataclass(frozen=True, eq=False)
class Photos:
    """The photos to train on and to validate with."""

    frames: Frames
    labels: np.ndarray
    """The column of each frame's class, (n,) int32; NO_LABEL is allowed for a training image with answers."""
    training: np.ndarray
    """Indices into `frames`."""
    validation: np.ndarray
    """Indices into `frames`."""
    answers: Optional[np.ndarray] = None
    """The probabilities that a teacher gives for each frame, (n, K) float32."""

    def labelled(self) -> Photos:
        """The same photos without the training images that have no label."""
        return replace(self, training=self.training[self.labels[self.training] != NO_LABEL])

    def class_weights(self) -> np.ndarray:
        """The weight of an image of each class, (K,) float32: inversely proportional to the class size, at most 10.

        The average over all images is 1, unless a weight is limited.
        """
        counts = np.bincount(self.labels[self.labelled().training], minlength=int(self.labels.max()) + 1)
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
        limited: np.ndarray = np.minimum(weights, _LARGEST_CLASS_WEIGHT).astype(np.float32)
        return limited

    def steps(self, batch_size: int) -> int:
        """The number of batches in an epoch."""
        return math.ceil(self._images_an_epoch() / batch_size)

    def augmented_batches(
        self, epoch: int, source: Size, target: Size, flip: bool, options: FineTuneOptions
    ) -> Iterator[Batch]:
        """The augmented batches of an epoch, from `source` to `target` (height, width).

        They depend only on the seed and the epoch, so that an interrupted training continues with the same batches.
        """
        count, weights = options.batch_size, self.class_weights()
        rng = np.random.default_rng([options.seed, epoch])
        for indices in np.resize(self._drawn(rng), (self.steps(count), count)):
            positions = augmentation.draw_positions(rng, count, source, target, options.augmentation, flip)
            colours = augmentation.draw_colours(rng, count, options.augmentation)
            shares = augmentation.draw_shares(rng, count, options.augmentation)
            labels = self.labels[indices]
            class_weights = np.where(labels == NO_LABEL, np.float32(0), weights[labels])
            answers = np.empty((count, 0), np.float32) if self.answers is None else self.answers[indices]
            yield Batch(self.frames.batch(indices), labels, class_weights, positions, colours, shares, answers)

    def validation_batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields validation frames (m, h, w, 3) uint8 with their labels (m,), without augmentation."""
        for first in range(0, len(self.validation), batch_size):
            indices = self.validation[first : first + batch_size]
            yield self.frames.batch(indices), self.labels[indices]

    def _images_an_epoch(self) -> int:
        labelled = len(self.labelled().training)
        return labelled + min(len(self.training) - labelled, UNLABELLED_PER_EPOCH)

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """The training images of an epoch in random order; of those without a label at most UNLABELLED_PER_EPOCH."""
        shuffled = rng.permutation(self.training)
        unlabelled = self.labels[shuffled] == NO_LABEL
        drawn: np.ndarray = shuffled[~unlabelled | (np.cumsum(unlabelled) <= UNLABELLED_PER_EPOCH)]
        return drawn


def unlabelled_batches(
    frames: Frames, training: np.ndarray, size: Size, options: EmbeddingTrainingOptions
) -> Iterator[Batch]:
    """Yields `options.steps` batches of `size`, augmented as in fine-tuning; labels are zeros.

    `training` are indices into `frames`.
    """
    labels = np.zeros(int(training.max()) + 1, np.int32)
    photos = Photos(frames, labels, training, np.array([], np.int64))
    source = frames.batch(training[:1]).shape[1:3]
    drawing = FineTuneOptions(batch_size=options.batch_size, seed=options.seed, augmentation=options.augmentation)
    epochs = (photos.augmented_batches(epoch, source, size, False, drawing) for epoch in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(epochs), options.steps)


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields the same batches, computed in a background thread; its errors are raised here.

    This is a plain thread and not tf.data, whose generator data set makes the C library return freed memory
    immediately, for the whole process; the page faults of every later step then cost more than the reading.
    """
    with ThreadPoolExecutor(1, "edgetl-batches") as thread:
        waiting: deque[Future[Optional[Batch]]] = deque(thread.submit(next, batches, None) for _ in range(_AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, batches, None))
            yield batch
