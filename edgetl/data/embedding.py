"""Hides the second pass over loaded photos, for another embedder; the pipeline and evaluation call it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Optional

import numpy as np

from edgetl.data.dataset import Dataset
from edgetl.data.reading import Progress
from edgetl.data.workers import work
from edgetl.runtime import Embedder


def embed_all(
    dataset: Dataset,
    embedder: Embedder,
    workers: Optional[int] = None,
    progress: Optional[Progress] = None,
    indices: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Raw embeddings (m, d) of all samples, or of `indices`, from the dataset's frames where they fit.

    Raises ImageError where a photo cannot be read any more, OptionError where workers is less than 1.
    """
    chosen = np.arange(len(dataset)) if indices is None else indices
    rows = np.empty((len(chosen), embedder.dimension), embedder.dtype)
    kept = dataset.frames is not None and dataset.preprocess == embedder.preprocess

    def embed(row: int) -> int:
        index = int(chosen[row])
        frame = dataset.frame(index) if kept else embedder.preprocess.frame(dataset.samples[index].path)
        rows[row] = embedder.embed(frame)
        return row

    @contextlib.contextmanager
    def equip() -> Iterator[Callable[[int], int]]:
        yield embed

    done = 0
    for lot in work(range(len(chosen)), equip, workers):
        done += len(lot)
        if progress:
            progress("embed photos", done, len(chosen))
    return rows
