"""Hides how close pairs are found without comparing all with all; the duplicate checks call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Unit = Callable[[np.ndarray], np.ndarray]
"""Makes float32 rows of length one (or zero) of stored rows (m, d); called on blocks, so memory stays small."""

ALL_PAIRS_UP_TO = 2048
"""So few rows are compared all with all; more go through signatures, in linear time."""


def close_pairs(rows: np.ndarray, unit: Unit, limit: float) -> np.ndarray:
    """Pairs (m, 2) of row indices, i < j, sorted, whose cosine distance is at most `limit`.

    Up to ALL_PAIRS_UP_TO rows all such pairs are found. Beyond, nearly all: signs of random projections differ
    in proportion to the angle (Charikar 2002, "Similarity estimation techniques from rounding algorithms"), and
    pairs that agree in one whole band of signs are compared: 0.998 of those 18 degrees apart once the mean row
    is taken off, 0.86 at 30 degrees.
    """
    found = (
        _close_among_all(rows, unit, limit) if len(rows) <= ALL_PAIRS_UP_TO else _close_by_signature(rows, unit, limit)
    )
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    return np.unique(pairs, axis=0)


def pair_distances(rows: np.ndarray, unit: Unit, pairs: np.ndarray) -> np.ndarray:
    """Cosine distances (m,) float32 of the pairs."""
    distances = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        left, right = unit(rows[block[:, 0]]), unit(rows[block[:, 1]])
        distances[start : start + _BLOCK] = 1 - np.einsum("ij,ij->i", left, right)
    return distances


def typical_distance_between_classes(rows: np.ndarray, unit: Unit, labels: np.ndarray) -> float:
    """The median cosine distance from a row to the nearest row of another class, over a sample of rows.

    Photos of one thing taken in a burst share a class, so they do not shorten this yardstick.
    """
    sample = np.arange(0, len(rows), max(1, len(rows) // _SAMPLE))
    queries, query_labels = unit(rows[sample]), labels[sample]
    nearest = np.full(len(sample), 2.0, np.float32)
    for start, block in _unit_blocks(rows, unit):
        distances = 1 - queries @ block.T
        distances[query_labels[:, None] == labels[None, start : start + len(block)]] = 2
        np.minimum(nearest, distances.min(axis=1), out=nearest)
    return float(np.median(nearest))


_BLOCK = 1024
_SAMPLE = 256
_BANDS = 24
_BAND_BITS = 14
_WINDOW = 32  # followers compared in a bucket: a large bucket must not make the search quadratic
_DIFFERING_BITS = _BANDS * _BAND_BITS // 4  # 45 degrees: farther candidates are not worth the exact distance
_SEED = 2002
_BIT_COUNTS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def _unit_blocks(rows: np.ndarray, unit: Unit) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, unit(rows[start : start + _BLOCK])


def _close_among_all(rows: np.ndarray, unit: Unit, limit: float) -> Iterator[np.ndarray]:
    for start, left in _unit_blocks(rows, unit):
        for other, right in _unit_blocks(rows[: start + len(left)], unit):
            later, earlier = np.nonzero(1 - left @ right.T <= limit)
            pairs = np.stack([earlier + other, later + start], axis=1)
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def _close_by_signature(rows: np.ndarray, unit: Unit, limit: float) -> Iterator[np.ndarray]:
    bits = _signatures(rows, unit)
    words = np.packbits(bits, axis=1).view(np.uint16)
    codes = bits.reshape(len(rows), _BANDS, _BAND_BITS) @ (1 << np.arange(_BAND_BITS))
    places = _places(codes)
    for band in range(_BANDS):
        for pairs in _bucket_mates(codes[:, band]):
            differing = _BIT_COUNTS[words[pairs[:, 0]] ^ words[pairs[:, 1]]].sum(axis=1)
            candidates = pairs[differing <= _DIFFERING_BITS]
            fresh = candidates[~_were_mates(candidates, codes[:, :band], places[:, :band])]
            yield fresh[pair_distances(rows, unit, fresh) <= limit]


def _signatures(rows: np.ndarray, unit: Unit) -> np.ndarray:
    """Signs (n, bands * bits) bool of random projections of the rows less their mean."""
    mean = sum(block.sum(axis=0, dtype=np.float64) for _, block in _unit_blocks(rows, unit)) / len(rows)
    planes = np.random.default_rng(_SEED).standard_normal((rows.shape[1], _BANDS * _BAND_BITS)).astype(np.float32)
    signs = [(block - mean.astype(np.float32)) @ planes > 0 for _, block in _unit_blocks(rows, unit)]
    return np.concatenate(signs)


def _bucket_mates(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs (m, 2), i < j, of rows with the same code, each row with at most _WINDOW followers."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    for step in range(1, min(_WINDOW + 1, len(codes))):
        same = np.nonzero(ordered[:-step] == ordered[step:])[0]
        if not len(same):
            return
        yield np.stack([order[same], order[same + step]], axis=1)


def _places(codes: np.ndarray) -> np.ndarray:
    """Where each row stands (n, bands) when the rows are sorted by their codes (n, bands) in a band."""
    places = np.empty_like(codes)
    np.put_along_axis(places, np.argsort(codes, axis=0, kind="stable"), np.arange(len(codes))[:, None], axis=0)
    return places


def _were_mates(pairs: np.ndarray, codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Whether each pair (m,) has come as bucket mates in one of the bands of these codes (n, bands) already."""
    first, second = pairs.T
    near = np.abs(places[first] - places[second]) <= _WINDOW
    return (near & (codes[first] == codes[second])).any(axis=1)
