"""Finds photos that are identical or nearly identical, by content digest, thumbnail and embedding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np

from edgetl.data.checks.neighbours import close_pairs, pair_distances, typical_distance_between_classes

THUMBNAIL_RATIO = 0.025
"""Two photos are near duplicates if their thumbnails are at most this share of the typical distance apart.

The typical distance is the median distance to the nearest photo of another class. Different photos came no closer
than 0.029 (1,797 scanned digits), 0.104 (1,034 photos of waste) and 0.124 (2,033 hand signs) of it, while half the
size, JPEG quality 40 or less contrast moved a photo by under 0.002 in the median on each of these sets.
"""

EMBEDDING_RATIO = 0.2
"""The same ratio for embeddings; different photos came no closer than 0.25 (digits) and 0.44 (hand signs)."""

COMPOSITION_RATIO = 0.5
"""Pairs found by embedding count only if their thumbnails are at most this share of the typical distance apart.

A backbone gives different photos of the same thing nearly the same embedding.
"""


def exact_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """Groups of two or more rows with the same content digest."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows[digest].append(row)
    return [group for group in rows.values() if len(group) > 1]


def near_pairs(
    thumbnails: np.ndarray, labels: np.ndarray, embeddings: Optional[np.ndarray] = None, zero_point: int = 0
) -> np.ndarray:
    """Pairs of rows, (m, 2) int64, that show nearly the same photo.

    Args:
        thumbnails: (n, pixels) uint8, of photos with different content.
        labels: (k,) class names of the first k <= n rows; the remaining rows have no label. The distance between
            photos of different classes is the scale, so that a data set of look-alikes is not full of duplicates.
        embeddings: (n, d) raw embeddings, with `zero_point`.
    """
    labelled = len(labels)
    typical = typical_distance_between_classes(thumbnails[:labelled], _normalized_thumbnails, labels)
    pairs = close_pairs(thumbnails, _normalized_thumbnails, THUMBNAIL_RATIO * typical)
    if embeddings is None:
        return pairs

    def normalized_embeddings(rows: np.ndarray) -> np.ndarray:
        return _unit_length(rows.astype(np.float32) - zero_point)

    typical_embedding = typical_distance_between_classes(embeddings[:labelled], normalized_embeddings, labels)
    candidates = close_pairs(embeddings, normalized_embeddings, EMBEDDING_RATIO * typical_embedding)
    distances = pair_distances(thumbnails, _normalized_thumbnails, candidates)
    return np.unique(np.concatenate([pairs, candidates[distances <= COMPOSITION_RATIO * typical]]), axis=0)


def merge_groups(count: int, groups: Iterable[Sequence[int]]) -> np.ndarray:
    """The group of each of `count` rows, (count,) int64, as the smallest row in it.

    Rows that occur together in one of `groups`, directly or through a third row, share a group.
    """
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, *others in groups:
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return np.array([root(row) for row in range(count)], np.int64)


def _unit_length(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalized: np.ndarray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return normalized


def _normalized_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails (n, pixels) as float32 unit vectors, independent of brightness and contrast."""
    grey = thumbnails.astype(np.float32)
    return _unit_length(grey - grey.mean(axis=1, keepdims=True))
