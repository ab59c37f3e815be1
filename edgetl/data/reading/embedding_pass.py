"""Embeds the samples of a Dataset with another embedder than the one that loaded it."""

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
from edgetl.data.reading.workers import run_workers
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
    """Raw embeddings (m, d) of all samples, or of the samples `indices` (m,).

    Frames come from the dataset's frame store if it has the embedder's size, else from the photos. Embeddings that
    `load_folder` or an earlier call computed come from the cache, so an interrupted call continues where it stopped.

    Raises:
        ImageError: a photo is missing or has changed.
        OptionError: `workers` is less than 1.
        StorageError: the cache folder cannot be used.
    """
    chosen = np.arange(len(dataset)) if indices is None else indices
    samples = [dataset.samples[index] for index in chosen]
    digests = [bytes.fromhex(sample.digest) for sample in samples]
    rows = np.empty((len(chosen), embedder.dimension), embedder.dtype)
    key = embedder_key(embedder)
    has_frames = dataset.frames is not None and dataset.preprocess == embedder.preprocess

    def frame(row: int) -> np.ndarray:
        if has_frames:
            return dataset.frame(int(chosen[row]))
        return read_frame(samples[row].path, samples[row].digest, embedder.preprocess)

    def embed(batch: Sequence[int]) -> list[int]:
        for row, one in [(row, frame(row)) for row in batch]:
            rows[row] = embedder.embed(one)
        return list(batch)

    @contextlib.contextmanager
    def start_worker() -> Iterator[Callable[[Sequence[int]], list[int]]]:
        yield embed

    with contextlib.closing(Cache(open_cache_folder(cache))) as opened:
        opened.use(key)
        missing = [row for row in range(len(rows)) if not _read_cached(opened, digests[row], key, rows[row])]
        done = len(rows) - len(missing)
        for embedded in run_workers(missing, start_worker, workers):
            opened.store_embeddings([(digests[row], rows[row].tobytes()) for row in embedded], key)
            done += len(embedded)
            if progress:
                progress("embed photos", done, len(rows))
    return rows


def _read_cached(cache: Cache, digest: bytes, key: bytes, row: np.ndarray) -> bool:
    """Fills `row` (d,) from the cache; returns False if the embedding is not there."""
    embedding = cache.embedding(digest, key, row.nbytes)
    if embedding is not None:
        row[:] = np.frombuffer(embedding, row.dtype)
    return embedding is not None
