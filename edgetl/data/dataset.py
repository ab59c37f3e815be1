"""Hides how samples, embeddings and frames belong together; training, evaluation and the pipeline read it."""

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
    """Share of each class for choosing among models."""
    test_fraction: float = 0.2
    """Share of each class for the final figure."""
    seed: int = 0
    exclude_bad: bool = False
    """Leave out tiny and blank photos, extra copies, contradictions, and training photos like test photos."""
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
    """Photos that show nearly the same share a group."""


@dataclass(frozen=True)
class Dataset:
    """The photos in use, sorted by label and content: the same photos come in the same order everywhere."""

    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    """Class names, sorted."""
    report: DatasetReport
    preprocess: Preprocess
    embeddings: Optional[np.ndarray] = field(default=None, repr=False)
    """Raw embeddings (n, d), a row per sample."""
    frames: Optional[FrameStore] = field(default=None, repr=False)
    """Frames (h, w, 3) uint8, one per sample."""

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of contents, labels and splits; paths and times do not matter."""
        lines = sorted(f"{sample.label}\0{sample.digest}\0{sample.split}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def indices(self, split: str) -> np.ndarray:
        """The samples of a split, int64 (m,)."""
        if split not in SPLITS:
            raise OptionError(f"unknown split '{split}'; choose {', '.join(SPLITS)}")
        return np.array([index for index, sample in enumerate(self.samples) if sample.split == split], np.int64)

    def labels_of(self, indices: np.ndarray) -> list[str]:
        """The label of each of these samples."""
        return [self.samples[index].label for index in indices]

    def folds(self, indices: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
        """The fold (m,) int64 of each of these samples: 0..k-1, stratified, groups kept together.

        Classes that are one single group get -1: always in training, never predicted.
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
        """The frame of a sample, uint8 (h, w, 3), from the store or from the photo; raises ImageError."""
        if self.frames is not None:
            return self.frames[index]
        return read_frame(self.samples[index].path, self.samples[index].digest, self.preprocess)

    def close(self) -> None:
        """Gives the disk space of the frames back."""
        if self.frames is not None:
            self.frames.close()
