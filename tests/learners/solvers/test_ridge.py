"""Ridge regression: its formula."""

from __future__ import annotations

import numpy as np

from edgetl.learners import GRID
from edgetl.learners.solvers import ridge
from tests.learners.solvers.scoring import COUNTS


def test_it_is_the_textbook_formula(world):
    rows, labels = world.taught(COUNTS, 0)
    statistics = world.statistics(COUNTS, 0)
    x, y = rows / GRID, np.array([statistics.labels.index(label) for label in labels])
    means = np.stack([x[y == index].mean(axis=0) for index in range(4)])
    within = (x - means[y]).T @ (x - means[y])
    centred = x - x.mean(axis=0)
    penalty = 0.25 / 0.75 * np.trace(within) / 48
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(48), centred.T @ np.eye(4)[y])
    assert np.abs(ridge.solve(statistics, shrinkage=0.25)[0] - expected).max() < 1e-4 * np.abs(expected).max()
