"""Hides the second pass over loaded photos, for another embedder; the pipeline and evaluation call it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from edgetl.data.dataset import Dataset
from edgetl.data.reading.cache import Cache, open_cache_folder
from edgetl.data.reading.frames import read_frame
from edgetl.data.reading.photo_pass import embedder_key
from edgetl.data.reading.workers import work
from edgetl.progress import Progress
from edgetl.runtime import Embedder


def embed_all(
    dataset: Dataset,
    embedder: Embedder,
    workers: Optional[int] = None,
    progress: Optional[Progress] = None,
    indices: Optional[np.ndarray] = None,
    cache: Optional[Path] = None,
) -> np.ndarray:
    """Raw embeddings (m, d) of all samples, or of `indices`, from the dataset's frames where they fit.

    What `load_folder` or this function computed before comes from the cache, and an interrupted call goes on
    where it stopped.
    Raises ImageError where a photo is gone or has changed, OptionError where workers is less than 1, StorageError
    where the cache folder cannot be used.
    """
    chosen = np.arange(len(dataset)) if indices is None else indices
    samples = [dataset.samples[index] for index in chosen]
    digests = [bytes.fromhex(sample.digest) for sample in samples]
    rows = np.empty((len(chosen), embedder.dimension), embedder.dtype)
    key = embedder_key(embedder)
    kept = dataset.frames is not None and dataset.preprocess == embedder.preprocess

    def frame(row: int) -> np.ndarray:
        if kept:
            return dataset.frame(int(chosen[row]))
        return read_frame(samples[row].path, samples[row].digest, embedder.preprocess)

    def embed(batch: Sequence[int]) -> list[int]:
        for row, one in [(row, frame(row)) for row in batch]:
            rows[row] = embedder.embed(one)
        return list(batch)

    @contextlib.contextmanager
    def equip() -> Iterator[Callable[[Sequence[int]], list[int]]]:
        yield embed

    with contextlib.closing(Cache(open_cache_folder(cache))) as known:
        known.use(key)
        unknown = [row for row in range(len(rows)) if not _recall(known, digests[row], key, rows[row])]
        done = len(rows) - len(unknown)
        for lot in work(unknown, equip, workers):
            known.store_embeddings([(digests[row], rows[row].tobytes()) for row in lot], key)
            done += len(lot)
            if progress:
                progress("embed photos", done, len(rows))
    return rows


def _recall(cache: Cache, digest: bytes, key: bytes, row: np.ndarray) -> bool:
    """Whether the cache knew the embedding; then it is in `row` (d,)."""
    embedding = cache.embedding(digest, key, row.nbytes)
    if embedding is not None:
        row[:] = np.frombuffer(embedding, row.dtype)
    return embedding is not None
