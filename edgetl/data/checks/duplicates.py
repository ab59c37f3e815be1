"""Hides which photos are the same or nearly the same; the loader calls it to group and report them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np

from edgetl.data.checks.neighbours import close_pairs, pair_distances, typical_distance_between_classes

THUMBNAIL_RATIO = 0.025
"""Thumbnails this much closer than photos of different classes typically come are one photo.

A share of the median distance to the nearest photo of another class. Different photos came no closer than 0.029
(1,797 scanned digits), 0.104 (1,034 photos of waste), 0.124 (2,033 hand signs), while half the size, JPEG quality
40 or less contrast moved a photo by under 0.002 in the median on each of these sets.
"""

EMBEDDING_RATIO = 0.2
"""The same for embeddings; different photos came no closer than 0.25 (digits) and 0.44 (hand signs)."""

COMPOSITION_RATIO = 0.5
"""Photos near by embedding count only if their thumbnails are at least so close: backbones confuse things."""


def exact_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """Rows with the same content, as lists of two or more."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows[digest].append(row)
    return [group for group in rows.values() if len(group) > 1]


def near_pairs(
    thumbnails: np.ndarray, labels: np.ndarray, embeddings: Optional[np.ndarray] = None, zero_point: int = 0
) -> np.ndarray:
    """Pairs (m, 2) of rows that show nearly the same photo.

    `thumbnails` (n, pixels) uint8 and raw `embeddings` (n, d) belong to photos of different content; the
    yardstick is how close photos of different `labels` (m,) come, so that look-alikes are no duplicates; where
    there are fewer labels than rows, the last rows have none.
    """
    labelled = len(labels)
    typical = typical_distance_between_classes(thumbnails[:labelled], _shape, labels)
    pairs = close_pairs(thumbnails, _shape, THUMBNAIL_RATIO * typical)
    if embeddings is None:
        return pairs

    def direction(rows: np.ndarray) -> np.ndarray:
        return _unit(rows.astype(np.float32) - zero_point)

    limit = EMBEDDING_RATIO * typical_distance_between_classes(embeddings[:labelled], direction, labels)
    alike = close_pairs(embeddings, direction, limit)
    composed = pair_distances(thumbnails, _shape, alike) <= COMPOSITION_RATIO * typical
    return np.unique(np.concatenate([pairs, alike[composed]]), axis=0)


def union(count: int, groups: Iterable[Sequence[int]]) -> np.ndarray:
    """The group (n,) of each row when the rows in each of `groups` belong together: the first row in it."""
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


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def _shape(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails without their brightness and contrast."""
    grey = thumbnails.astype(np.float32)
    return _unit(grey - grey.mean(axis=1, keepdims=True))
