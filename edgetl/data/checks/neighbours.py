"""Finds close pairs among many vectors without comparing every vector with every other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Normalize = Callable[[np.ndarray], np.ndarray]
"""Turns stored rows (m, d) into float32 rows of length one (or zero); called on blocks, to keep memory small."""

ALL_PAIRS_UP_TO = 2048
"""Up to this many rows, all pairs are compared; beyond it, signatures select the pairs, in linear time."""


def close_pairs(rows: np.ndarray, normalize: Normalize, limit: float) -> np.ndarray:
    """Pairs of row indices, (m, 2) int64, i < j, sorted, whose cosine distance is at most `limit`.

    Up to ALL_PAIRS_UP_TO rows, all such pairs are found; beyond it, nearly all. Signs of random projections differ
    in proportion to the angle (Charikar 2002, "Similarity estimation techniques from rounding algorithms"), and
    only pairs that agree in a whole band of signs are compared: that finds 0.998 of the pairs 18 degrees apart
    (after subtracting the mean row) and 0.86 of those 30 degrees apart.
    """
    search = _close_among_all if len(rows) <= ALL_PAIRS_UP_TO else _close_by_signature
    pairs = np.concatenate([np.empty((0, 2), np.int64), *search(rows, normalize, limit)])
    return np.unique(pairs, axis=0)


def pair_distances(rows: np.ndarray, normalize: Normalize, pairs: np.ndarray) -> np.ndarray:
    """Cosine distances, (m,) float32, of the pairs (m, 2)."""
    distances = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        left, right = normalize(rows[block[:, 0]]), normalize(rows[block[:, 1]])
        distances[start : start + _BLOCK] = 1 - np.einsum("ij,ij->i", left, right)
    return distances


def typical_distance_between_classes(rows: np.ndarray, normalize: Normalize, labels: np.ndarray) -> float:
    """The median cosine distance from a row to the nearest row of another class, over a sample of rows.

    Photos of one thing taken in a burst share a class, so they do not shorten this distance.
    """
    sample = np.arange(0, len(rows), max(1, len(rows) // _SAMPLE))
    queries, query_labels = normalize(rows[sample]), labels[sample]
    nearest = np.full(len(sample), 2.0, np.float32)
    for start, block in _normalized_blocks(rows, normalize):
        distances = 1 - queries @ block.T
        distances[query_labels[:, None] == labels[None, start : start + len(block)]] = 2
        np.minimum(nearest, distances.min(axis=1), out=nearest)
    return float(np.median(nearest))


_BLOCK = 1024
_SAMPLE = 256
_BANDS = 24
_BAND_BITS = 14
_WINDOW = 32  # followers compared in a bucket: a large bucket must not make the search quadratic
_DIFFERING_BITS = _BANDS * _BAND_BITS // 4  # 45 degrees: candidates farther apart are not worth the exact distance
_SEED = 2002
_BIT_COUNTS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def _normalized_blocks(rows: np.ndarray, normalize: Normalize) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, normalize(rows[start : start + _BLOCK])


def _close_among_all(rows: np.ndarray, normalize: Normalize, limit: float) -> Iterator[np.ndarray]:
    for start, left in _normalized_blocks(rows, normalize):
        for other, right in _normalized_blocks(rows[: start + len(left)], normalize):
            later, earlier = np.nonzero(1 - left @ right.T <= limit)
            pairs = np.stack([earlier + other, later + start], axis=1)
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def _close_by_signature(rows: np.ndarray, normalize: Normalize, limit: float) -> Iterator[np.ndarray]:
    bits = _signatures(rows, normalize)
    words = np.packbits(bits, axis=1).view(np.uint16)
    codes = bits.reshape(len(rows), _BANDS, _BAND_BITS) @ (1 << np.arange(_BAND_BITS))
    ranks = _ranks(codes)
    for band in range(_BANDS):
        for pairs in _bucket_mates(codes[:, band]):
            differing = _BIT_COUNTS[words[pairs[:, 0]] ^ words[pairs[:, 1]]].sum(axis=1)
            candidates = pairs[differing <= _DIFFERING_BITS]
            new = candidates[~_were_mates(candidates, codes[:, :band], ranks[:, :band])]
            yield new[pair_distances(rows, normalize, new) <= limit]


def _signatures(rows: np.ndarray, normalize: Normalize) -> np.ndarray:
    """Signs, (n, bands * bits) bool, of random projections of the rows less their mean."""
    mean = sum(block.sum(axis=0, dtype=np.float64) for _, block in _normalized_blocks(rows, normalize)) / len(rows)
    planes = np.random.default_rng(_SEED).standard_normal((rows.shape[1], _BANDS * _BAND_BITS)).astype(np.float32)
    signs = [(block - mean.astype(np.float32)) @ planes > 0 for _, block in _normalized_blocks(rows, normalize)]
    return np.concatenate(signs)


def _bucket_mates(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs (m, 2), i < j, of rows with the same code; each row is paired with at most _WINDOW followers."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    for distance in range(1, min(_WINDOW + 1, len(codes))):
        same = np.nonzero(ordered[:-distance] == ordered[distance:])[0]
        if not len(same):
            return
        yield np.stack([order[same], order[same + distance]], axis=1)


def _ranks(codes: np.ndarray) -> np.ndarray:
    """The rank of each row, (n, bands), when the rows are sorted by their codes (n, bands) in a band."""
    ranks = np.empty_like(codes)
    np.put_along_axis(ranks, np.argsort(codes, axis=0, kind="stable"), np.arange(len(codes))[:, None], axis=0)
    return ranks


def _were_mates(pairs: np.ndarray, codes: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Whether each pair, (m,) bool, already occurred as bucket mates in one of these bands, codes (n, bands)."""
    first, second = pairs.T
    near = np.abs(ranks[first] - ranks[second]) <= _WINDOW
    were_mates: np.ndarray = (near & (codes[first] == codes[second])).any(axis=1)
    return were_mates
