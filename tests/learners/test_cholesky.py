"""The blocked Cholesky factorisation solves the same systems as numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.learners.cholesky import Cholesky


def make_system(n: int, dtype: type = np.float64) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(n, 2 * n))
    return (values @ values.T / n).astype(dtype)


@pytest.mark.parametrize("n", [1, 5, 128, 129, 300])
def test_blocks_of_any_number_and_size_solve_the_whole_system(n):
    system, rows = make_system(n), np.random.default_rng(1).normal(size=(3, n))
    assert np.allclose(Cholesky(system).solve(rows) @ system, rows)


def test_the_precision_is_that_of_the_matrix():
    system = make_system(200, np.float32)
    solved = Cholesky(system).solve(np.ones((2, 200)))
    assert solved.dtype == np.float32
    assert np.allclose(solved @ system, 1, atol=1e-3)


def test_forward_substitution_gives_lengths_under_the_inverse():
    system, rows = make_system(200), np.random.default_rng(1).normal(size=(3, 200))
    lengths = (Cholesky(system).forward(rows) ** 2).sum(axis=1)
    assert np.allclose(lengths, (rows @ np.linalg.inv(system) * rows).sum(axis=1))


def test_a_matrix_that_is_not_positive_definite_is_refused():
    with pytest.raises(np.linalg.LinAlgError):
        Cholesky(-np.eye(200))
