"""The Dataset: samples with labels, splits and groups, their embeddings and their frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional

import numpy as np

from edgetl.data.findings import DatasetReport
from edgetl.data.reading.frames import FrameStore, read_frame
from edgetl.data.splitting import deal_folds
from edgetl.errors import OptionError
from edgetl.runtime import Preprocess

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataOptions:
    """How photos are checked and split."""

    validation_fraction: float = 0.15
    """Share of each class in "val", to choose between models, 0..0.5."""
    test_fraction: float = 0.2
    """Share of each class in "test", to measure the final model, 0..0.5."""
    seed: int = 0
    """Seed of the split."""
    exclude_bad: bool = False
    """Leave out tiny and blank photos, extra copies, contradicting labels, and training photos like test photos."""
    workers: Optional[int] = None
    """Threads that read photos; None means one per core."""

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise OptionError(f"{name} must be 0 to 0.5, received {getattr(self, name)}")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"workers must be 1 or more, received {self.workers}")


@dataclass(frozen=True)
class ReadingOptions:
    """How photos are read."""

    workers: Optional[int] = None
    """Threads that read photos; None means one per core."""
    cache: Optional[Path] = None
    """The cache folder; None means EDGETL_CACHE or the user's cache folder."""


@dataclass(frozen=True)
class Sample:
    """One photo in use."""

    path: Path
    label: str
    split: str
    """"train", "val" or "test"."""
    digest: str
    """SHA-256 of the file, in hex."""
    group: int
    """Near duplicates share a group."""


@dataclass(frozen=True)
class Dataset:
    """The photos in use, sorted by label and content, so that the order is the same on every machine."""

    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    """Class names, sorted."""
    report: DatasetReport
    preprocess: Preprocess
    embeddings: Optional[np.ndarray] = field(default=None, repr=False)
    """Raw embeddings (n, d) as the embedder returns them, a row per sample."""
    frames: Optional[FrameStore] = field(default=None, repr=False)
    """Decoded frames, (h, w, 3) uint8 per sample."""

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of contents, labels and splits; independent of paths and times."""
        lines = sorted(f"{sample.label}\0{sample.digest}\0{sample.split}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def indices(self, split: str) -> np.ndarray:
        """The samples of a split ("train", "val" or "test"), (m,) int64; raises OptionError for another name."""
        if split not in SPLITS:
            raise OptionError(f"unknown split '{split}'; choose {', '.join(SPLITS)}")
        return np.array([index for index, sample in enumerate(self.samples) if sample.split == split], np.int64)

    def labels_of(self, indices: np.ndarray) -> list[str]:
        """The labels of these samples."""
        return [self.samples[index].label for index in indices]

    def folds(self, indices: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
        """The fold, 0..k-1, of each of these samples, (m,) int64, stratified by class; a group stays together.

        Samples of a class with a single group get -1: always in training, never predicted.

        Raises:
            OptionError: `k` is less than 2.
        """
        if k < 2:
            raise OptionError(f"folds must be 2 or more, received {k}")
        chosen = [self.samples[index] for index in indices]
        return deal_folds(
            [sample.label for sample in chosen],
            [sample.group for sample in chosen],
            [sample.digest for sample in chosen],
            k,
            seed,
        )

    def frame(self, index: int) -> np.ndarray:
        """The frame of a sample, (h, w, 3) uint8, from the frame store or decoded from the photo.

        Raises:
            ImageError: the photo is missing or has changed since it was loaded.
        """
        if self.frames is not None:
            return self.frames[index]
        return read_frame(self.samples[index].path, self.samples[index].digest, self.preprocess)

    def close(self) -> None:
        """Frees the disk space of the frames."""
        if self.frames is not None:
            self.frames.close()
