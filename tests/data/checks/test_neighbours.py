"""Close pairs are found among many vectors, in linear time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgetl.data.checks.neighbours import ALL_PAIRS_UP_TO, close_pairs, pair_distances

LIMIT = 0.02


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def vectors(count: int, pairs: int, spread: float = 0.1) -> np.ndarray:
    """Random vectors (count, 64); the last `pairs` rows are the first ones, rotated by a few degrees."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((count, 64)).astype(np.float32)
    rows[-pairs:] = rows[:pairs] + spread * random.standard_normal((pairs, 64))
    return rows


@pytest.mark.parametrize("count", [ALL_PAIRS_UP_TO, ALL_PAIRS_UP_TO + 1, 6000])
def test_close_pairs_are_found_and_no_others(count: int) -> None:
    rows = vectors(count, 200)
    found = close_pairs(rows, unit, LIMIT)
    assert (pair_distances(rows, unit, found) <= LIMIT).all()
    expected = {(at, count - 200 + at) for at in range(200)}
    assert len(expected & set(map(tuple, found.tolist()))) >= 199
    assert len(found) <= 200


def test_the_search_is_not_quadratic_if_all_rows_are_alike() -> None:
    rows = (1 + 1e-3 * vectors(20_000, 1)).astype(np.float32)
    start = time.process_time()
    close_pairs(rows, unit, 1e-9)
    assert time.process_time() - start < 60


def test_two_rows_are_enough() -> None:
    rows = np.ones((2, 4), np.float32)
    assert close_pairs(rows, unit, LIMIT).tolist() == [[0, 1]]
