"""The linear discriminant: its formula, its shrinkage, and its correction for classes with few pictures."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.learners import GRID, Statistics
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.solvers import discriminant
from tests.learners.conftest import make_world, name
from tests.learners.solvers.scoring import COUNTS, accuracy, predicted


def test_it_is_the_textbook_formula_without_correction(world):
    rows, labels = world.taught(COUNTS, 0)
    statistics = world.statistics(COUNTS, 0)
    x, y = rows / GRID, np.array([statistics.labels.index(label) for label in labels])
    means = np.stack([x[y == index].mean(axis=0) for index in range(4)])
    scatter = (x - means[y]).T @ (x - means[y]) / (len(x) - 4)
    covariance = 0.8 * scatter + 0.2 * np.trace(scatter) / 48 * np.eye(48)
    weights = np.linalg.solve(covariance, means.T)
    expected = x @ weights - (means.T * weights).sum(axis=0) / 2
    found_weights, found_bias = discriminant.solve(statistics, shrinkage=0.2, correction=False)
    difference = x @ found_weights + found_bias - expected
    assert np.abs(difference - difference[:, :1]).max() < 1e-3


@pytest.mark.parametrize("shrinkage", [0.003, 0.3])
def test_single_and_double_precision_give_the_same_weights(shrinkage):
    large = make_world(classes=4, d=300, apart=0.3)
    moments = Moments.of(large.statistics(dict.fromkeys(range(4), 60), 0))
    system = (1 - shrinkage) * moments.scatter + shrinkage * moments.spread * np.eye(300)
    offsets = moments.means - moments.means.mean(axis=0)
    expected = np.linalg.solve(system, offsets.T) * moments.freedom
    found = Directions.of(moments, shrinkage).vectors
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_a_class_with_one_picture_benefits_from_the_other_classes(world):
    gains = []
    for seed in range(5):
        statistics = world.statistics({0: 80, 1: 80, 2: 80, 3: 1, 4: 1}, seed)
        few = Statistics()
        few.add(*world.taught({3: 1, 4: 1}, seed))
        with_old = accuracy_between(discriminant.solve(statistics, 0.2), world, statistics, 3, 4)
        alone = accuracy_between(discriminant.solve(few, 0.2), world, few, 3, 4)
        gains.append(with_old - alone)
    assert np.mean(gains) > 0.03


@pytest.mark.parametrize("few", [1, 2, 5, 10])
def test_new_classes_neither_starve_nor_displace_the_old_ones(few):
    crowded = make_world(classes=6, d=200, apart=0.3)
    old, new = [0, 1, 2], [3, 4, 5]
    scores = {True: [], False: []}
    for seed in range(4):
        statistics = crowded.statistics({**dict.fromkeys(old, 60), **dict.fromkeys(new, few)}, seed)
        for corrected in scores:
            solution = discriminant.solve(statistics, 0.3, correction=corrected)
            scores[corrected].append(
                (accuracy(solution, crowded, statistics, old), accuracy(solution, crowded, statistics, new))
            )
    (old_plain, new_plain), (old_score, new_score) = np.mean(scores[False], 0), np.mean(scores[True], 0)
    assert new_score > new_plain
    assert old_score + new_score >= old_plain + new_plain
    assert old_score > 0.6 * old_plain


def test_the_correction_vanishes_for_large_classes_of_equal_size(world):
    statistics = world.statistics(dict.fromkeys(range(4), 200), 0)
    rows = world.draw(1, 300, 5)
    plain = predicted(discriminant.solve(statistics, 0.3, correction=False), rows)
    assert (plain == predicted(discriminant.solve(statistics, 0.3), rows)).mean() > 0.98


def test_the_analytic_shrinkage_falls_with_more_pictures(world):
    scales = [
        Directions.of(Moments.of(world.statistics({0: n, 1: n}, 0)), "oas").scale * (2 * n - 2) for n in (3, 30, 300)
    ]
    assert scales == sorted(scales)


def test_the_analytic_shrinkage_stays_within_its_bounds(world):
    few, many = (Moments.of(world.statistics({0: n, 1: n}, 0)) for n in (1, 30_000))
    for moments, amount in ((few, 0.9), (many, 0.02)):
        found, expected = Directions.of(moments, "oas"), Directions.of(moments, amount)
        assert np.array_equal(found.products, expected.products)


def accuracy_between(solution, world, statistics, one, other) -> float:
    columns = [statistics.labels.index(name(label)) for label in (one, other)]
    weights, bias = solution[0][:, columns], solution[1][columns]
    hits = [
        (predicted((weights, bias), world.draw(label, 100, 77)) == i).mean() for i, label in enumerate((one, other))
    ]
    return float(np.mean(hits))
