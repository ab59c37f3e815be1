"""Every solver in the folder passes these, by being there."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.errors import LearningError, OptionError
from edgetl.learners import GRID, SOLVERS, Statistics
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.solvers import discriminant, ridge
from tests.learners.conftest import make_world, name

COUNTS = {0: 30, 1: 20, 2: 40, 3: 25}


@pytest.fixture(params=sorted(SOLVERS))
def solver(request):
    return SOLVERS[request.param]


def predicted(solution, rows) -> np.ndarray:
    weights, bias = solution
    return (rows / GRID @ weights + bias).argmax(axis=1)


def accuracy(solution, world, statistics: Statistics, labels, seed: int = 99) -> float:
    hits = []
    for label in labels:
        slot = statistics.labels.index(name(label))
        hits.append((predicted(solution, world.draw(label, 100, seed)) == slot).mean())
    return float(np.mean(hits))


def test_the_folder_lists_its_solvers():
    assert {"nearest-mean", "ridge", "discriminant"} <= set(SOLVERS)
    assert all(each == SOLVERS[each].NAME for each in SOLVERS)


class TestEverySolver:
    def test_gives_finite_float32_of_the_right_shape(self, solver, world):
        weights, bias = solver.solve(world.statistics(COUNTS, 0))
        assert (weights.dtype, weights.shape) == (np.float32, (48, 4))
        assert (bias.dtype, bias.shape) == (np.float32, (4,))
        assert np.isfinite(weights).all()
        assert np.isfinite(bias).all()

    def test_tells_the_classes_apart(self, solver, world):
        statistics = world.statistics(COUNTS, 0)
        assert accuracy(solver.solve(statistics), world, statistics, COUNTS) > 0.55

    def test_leaves_the_statistics_as_they_were(self, solver, world):
        statistics = world.statistics(COUNTS, 0)
        before = statistics.to_bytes()
        solver.solve(statistics)
        assert statistics.to_bytes() == before

    def test_gives_the_same_bits_for_the_same_statistics(self, solver, world):
        rows, labels = world.taught(COUNTS, 0)
        forth, undone = Statistics(), Statistics()
        forth.add(rows, labels)
        undone.add(rows, labels)
        undone.add(rows[:7], name(2))
        undone.remove(rows[:7], name(2))
        for one, other in zip(solver.solve(forth), solver.solve(undone)):
            assert np.array_equal(one, other)

    def test_keeps_the_order_of_the_slots(self, solver, world):
        statistics = world.statistics({3: 30, 0: 30, 2: 30}, 0)
        assert statistics.labels == (name(3), name(0), name(2))
        rows = world.draw(0, 100, 9)
        assert np.bincount(predicted(solver.solve(statistics), rows), minlength=3).argmax() == 1

    def test_serves_from_one_embedding_of_each_class(self, solver, world):
        statistics = world.statistics({0: 1, 1: 1}, 0)
        solution = solver.solve(statistics)
        assert all(np.isfinite(part).all() for part in solution)
        rows, labels = world.taught({0: 1, 1: 1}, 0)
        assert [statistics.labels[slot] for slot in predicted(solution, rows)] == labels

    def test_serves_one_class_alone(self, solver, world):
        weights, bias = solver.solve(world.statistics({0: 5}, 0))
        assert weights.shape == (48, 1)
        assert np.isfinite(bias).all()

    def test_bears_dead_channels_and_equal_embeddings(self, solver):
        rows = np.zeros((8, 16), np.int16)
        rows[:4, 0], rows[4:, 1] = GRID, GRID
        statistics = Statistics()
        statistics.add(rows, ["a"] * 4 + ["b"] * 4)
        assert predicted(solver.solve(statistics), rows).tolist() == [0] * 4 + [1] * 4

    def test_bears_embeddings_of_zeros(self, solver):
        statistics = Statistics()
        statistics.add(np.zeros((4, 8), np.int16), ["a", "a", "b", "b"])
        assert all(np.isfinite(part).all() for part in solver.solve(statistics))

    def test_refuses_what_was_never_taught(self, solver):
        with pytest.raises(LearningError, match="nothing was taught"):
            solver.solve(Statistics())


@pytest.mark.parametrize("solver", [discriminant, ridge])
@pytest.mark.parametrize("shrinkage", [0, 1, -0.1, float("nan"), "ledoit", None, [0.5]])
def test_a_shrinkage_out_of_range_is_refused(solver, shrinkage, world):
    with pytest.raises(OptionError, match="shrinkage is"):
        solver.solve(world.statistics(COUNTS, 0), shrinkage=shrinkage)


class TestDiscriminant:
    def test_is_the_textbook_formula_where_every_class_is_well_known(self, world):
        rows, labels = world.taught(COUNTS, 0)
        statistics = world.statistics(COUNTS, 0)
        x, y = rows / GRID, np.array([statistics.labels.index(label) for label in labels])
        means = np.stack([x[y == slot].mean(axis=0) for slot in range(4)])
        scatter = (x - means[y]).T @ (x - means[y]) / (len(x) - 4)
        covariance = 0.8 * scatter + 0.2 * np.trace(scatter) / 48 * np.eye(48)
        weights = np.linalg.solve(covariance, means.T)
        expected = x @ weights - (means.T * weights).sum(axis=0) / 2
        found_weights, found_bias = discriminant.solve(statistics, shrinkage=0.2, correction=False)
        difference = x @ found_weights + found_bias - expected
        assert np.abs(difference - difference[:, :1]).max() < 1e-3

    @pytest.mark.parametrize("shrinkage", [0.003, 0.3])
    def test_either_precision_gives_the_weights_of_the_other(self, shrinkage):
        large = make_world(classes=4, d=300, apart=0.3)
        moments = Moments.of(large.statistics(dict.fromkeys(range(4), 60), 0))
        system = (1 - shrinkage) * moments.scatter + shrinkage * moments.spread * np.eye(300)
        offsets = moments.means - moments.means.mean(axis=0)
        expected = np.linalg.solve(system, offsets.T) * moments.freedom
        found = Directions.of(moments, shrinkage).vectors
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()

    def test_a_class_of_one_picture_profits_from_what_the_others_taught(self, world):
        gains = []
        for seed in range(5):
            statistics = world.statistics({0: 80, 1: 80, 2: 80, 3: 1, 4: 1}, seed)
            few = Statistics()
            few.add(*world.taught({3: 1, 4: 1}, seed))
            with_old = _between(discriminant.solve(statistics, 0.2), world, statistics, 3, 4)
            alone = _between(discriminant.solve(few, 0.2), world, few, 3, 4)
            gains.append(with_old - alone)
        assert np.mean(gains) > 0.03

    @pytest.mark.parametrize("few", [1, 2, 5, 10])
    def test_new_classes_neither_starve_nor_swallow_the_old(self, few):
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

    def test_the_correction_vanishes_where_all_classes_are_as_large(self, world):
        statistics = world.statistics(dict.fromkeys(range(4), 200), 0)
        rows = world.draw(1, 300, 5)
        plain = predicted(discriminant.solve(statistics, 0.3, correction=False), rows)
        assert (plain == predicted(discriminant.solve(statistics, 0.3), rows)).mean() > 0.98

    def test_the_analytic_shrinkage_falls_as_pictures_come_in(self, world):
        scales = [
            Directions.of(Moments.of(world.statistics({0: n, 1: n}, 0)), "oas").scale * (2 * n - 2)
            for n in (3, 30, 300)
        ]
        assert scales == sorted(scales)

    def test_the_analytic_shrinkage_keeps_to_its_bounds(self, world):
        few, many = (Moments.of(world.statistics({0: n, 1: n}, 0)) for n in (1, 30_000))
        for moments, amount in ((few, 0.9), (many, 0.02)):
            found, expected = Directions.of(moments, "oas"), Directions.of(moments, amount)
            assert np.array_equal(found.products, expected.products)


def _between(solution, world, statistics, one, other) -> float:
    slots = [statistics.labels.index(name(label)) for label in (one, other)]
    weights, bias = solution[0][:, slots], solution[1][slots]
    hits = [
        (predicted((weights, bias), world.draw(label, 100, 77)) == i).mean() for i, label in enumerate((one, other))
    ]
    return float(np.mean(hits))


def test_ridge_is_the_textbook_formula(world):
    rows, labels = world.taught(COUNTS, 0)
    statistics = world.statistics(COUNTS, 0)
    x, y = rows / GRID, np.array([statistics.labels.index(label) for label in labels])
    means = np.stack([x[y == slot].mean(axis=0) for slot in range(4)])
    within = (x - means[y]).T @ (x - means[y])
    centred = x - x.mean(axis=0)
    penalty = 0.25 / 0.75 * np.trace(within) / 48
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(48), centred.T @ np.eye(4)[y])
    assert np.abs(ridge.solve(statistics, shrinkage=0.25)[0] - expected).max() < 1e-4 * np.abs(expected).max()
