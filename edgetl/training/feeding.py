"""Hides how photos reach the network: which, in what order, varied how, and read while it trains; `run` calls it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Optional, Protocol

import numpy as np

from edgetl.training import augmentation
from edgetl.training.options import FineTuneOptions

Size = tuple[int, int]

_AHEAD = 2  # batches in memory beside the one in use
_LARGEST_CLASS_WEIGHT = 10.0


class Batch(NamedTuple):
    """Images to train on, and how each is varied; always of the same shapes."""

    frames: np.ndarray  # uint8 (m, h, w, 3)
    labels: np.ndarray  # int32 (m,)
    weights: np.ndarray  # float32 (m,), of their classes
    positions: np.ndarray  # float32 (m, 8), where their pixels come from
    colours: np.ndarray  # float32 (m, 4, 3), what becomes of their colours
    shares: np.ndarray  # float32 (m,), what they keep of themselves when blended


class Frames(Protocol):
    """Decoded images of the backbone's input size, read as they are needed."""

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """uint8 (m, h, w, 3), in the order of the indices."""
        ...


@dataclass(frozen=True, eq=False)
class Photos:
    """Frames, their labels as columns (n,) int32, and the indices of those to train on and to validate with."""

    frames: Frames
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray

    def class_weights(self) -> np.ndarray:
        """Per class, so that all weigh the same together and an image one on average; rare ones at most ten."""
        counts = np.bincount(self.labels[self.training], minlength=int(self.labels.max()) + 1)
        weights = len(self.training) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return np.minimum(weights, _LARGEST_CLASS_WEIGHT).astype(np.float32)

    def steps(self, batch_size: int) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.training) / batch_size)

    def varied_batches(
        self, epoch: int, source: Size, target: Size, flip: bool, options: FineTuneOptions
    ) -> Iterator[Batch]:
        """An epoch's batches. Seed and epoch alone decide them: an interrupted training goes on with the same."""
        count, weights = options.batch_size, self.class_weights()
        rng = np.random.default_rng([options.seed, epoch])
        for indices in np.resize(rng.permutation(self.training), (self.steps(count), count)):
            positions = augmentation.draw_positions(rng, count, source, target, options.augmentation, flip)
            colours = augmentation.draw_colours(rng, count, options.augmentation)
            shares = augmentation.draw_shares(rng, count, options.augmentation)
            labels = self.labels[indices]
            yield Batch(self.frames.batch(indices), labels, weights[labels], positions, colours, shares)

    def validation_batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames and labels, as they are."""
        for first in range(0, len(self.validation), batch_size):
            indices = self.validation[first : first + batch_size]
            yield self.frames.batch(indices), self.labels[indices]


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
