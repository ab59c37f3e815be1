"""Directions: terms that are added to the scatter later count as if they had been there from the start."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.learners.moments import Directions, Moments

SHRINKAGE = 0.3


def test_terms_added_to_the_scatter_need_no_new_factorisation(world):
    moments = Moments.of(world.statistics({0: 20, 1: 20, 2: 20}, 1))
    mixtures = np.array([[1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    amounts = np.array([3.0, 7.0])
    directions = Directions.of(moments, SHRINKAGE)
    differences = mixtures @ moments.means
    scatter = moments.scatter + (differences.T * amounts) @ differences
    system = (1 - SHRINKAGE) * scatter + SHRINKAGE * moments.spread * np.eye(len(scatter))
    offsets = moments.means - directions.centre
    vectors = moments.freedom * np.linalg.solve(system, offsets.T)
    found = directions.with_scatter(mixtures, amounts)
    assert found.vectors == pytest.approx(vectors, rel=1e-5, abs=1e-6 * np.abs(vectors).max())
    assert found.products == pytest.approx(offsets @ vectors, rel=1e-5)
