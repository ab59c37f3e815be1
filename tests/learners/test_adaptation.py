"""Adaptation spans or halves classes only if the taught pictures clearly gain from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgetl.errors import LearningError
from edgetl.learners import SOLVERS, ConditionWeights, LastLayer, Statistics, adapt, choose, relearn
from edgetl.learners.moments import Moments
from tests.learners.conftest import make_world, name

COUNTS = dict.fromkeys(range(4), 30)
TAUGHT = dict.fromkeys(range(4), 6)


def build(world):
    rows, labels = world.taught(COUNTS, 0)
    return choose(rows, labels, np.arange(len(labels)) % 4)


@pytest.fixture
def built(world):
    return build(world)


@pytest.fixture
def elsewhere(world):
    """The same classes as they look after everything has changed: each like another one before."""
    return replace(world, means=np.roll(world.means, 1, axis=0))


@pytest.fixture
def close():
    """Classes that are harder to separate."""
    return make_world(classes=6, d=48, apart=0.25)


@pytest.fixture
def moved(close):
    """The same classes in another place: each has changed to a degree of its own, along what was quiet before."""
    quietest = np.linalg.svd(close.mixing)[2][-1]
    return replace(close, means=close.means + np.outer([2, -2, 1, -1, 2, 0], quietest))


def chosen(built, rows, labels, halvings=None, spanned=()):
    statistics = built.statistics.copy()
    statistics.add(rows, labels)
    asked = statistics, rows, labels, statistics.labels
    found = adapt("discriminant", {"shrinkage": 0.35}, *asked, halvings or {}, spanned)
    return statistics, found


def accuracy(layer: LastLayer, world) -> float:
    hits = [layer.scores(world.draw(c, 50, 9)).argmax(axis=1) == layer.labels.index(name(c)) for c in COUNTS]
    return float(np.mean(hits))


def test_shipped_counts_are_halved_if_everything_has_changed(built, elsewhere):
    rows, labels = elsewhere.taught(TAUGHT, 5)
    statistics, found = chosen(built, rows, labels)
    assert found.helps
    assert found.after > found.before
    assert not found.spanned
    condition_weights = ConditionWeights.of(rows, labels, found.halvings)
    plain = relearn(built.last_layer, statistics, {"shrinkage": 0.35})
    adapted = relearn(built.last_layer, statistics, {"shrinkage": 0.35}, condition_weights=condition_weights)
    assert accuracy(adapted, elsewhere) > accuracy(plain, elsewhere)


def test_classes_are_spanned_if_that_holds_under_both_conditions(close, moved):
    built = build(close)
    rows, labels = moved.taught(dict.fromkeys(range(4), 3), 5)
    statistics, found = chosen(built, rows, labels)
    assert found.spanned == statistics.labels
    assert set(found.halvings.values()) == {0}
    condition_weights = ConditionWeights.of(rows, labels, found.halvings, found.spanned)
    plain = relearn(built.last_layer, statistics, {"shrinkage": 0.35})
    adapted = relearn(built.last_layer, statistics, {"shrinkage": 0.35}, condition_weights=condition_weights)
    assert accuracy(adapted, moved) > accuracy(plain, moved) + 0.05
    assert accuracy(adapted, close) > accuracy(plain, close) - 0.02


def test_leave_old_gives_the_old_conditions_up_for_a_smaller_gain(close, moved):
    built = build(close)
    rows, labels = moved.taught(dict.fromkeys(range(4), 4), 5)
    statistics, found = chosen(built, rows, labels)
    assert found.spanned
    asked = "discriminant", {"shrinkage": 0.35}, statistics, rows, labels, statistics.labels
    leaving = adapt(*asked, {}, leave_old=True)
    assert not leaving.spanned
    assert leaving.after > found.after


def test_classes_that_are_spanned_already_are_not_chosen_again(close, moved):
    built = build(close)
    rows, labels = moved.taught(dict.fromkeys(range(4), 3), 5)
    statistics, found = chosen(built, rows, labels)
    _, again = chosen(built, rows, labels, spanned=statistics.labels)
    assert (again.helps, again.before, again.spanned) == (False, found.after, found.spanned)


def test_nothing_is_changed_if_conditions_are_the_same(built, world):
    rows, labels = world.taught(TAUGHT, 5)
    _, found = chosen(built, rows, labels)
    assert not found.helps
    assert set(found.halvings.values()) == {0}
    assert found.before == found.after


def test_full_weight_is_restored_if_the_old_conditions_are_back(built, world):
    rows, labels = world.taught(TAUGHT, 5)
    _, found = chosen(built, rows, labels, halvings={name(c): 8 for c in COUNTS})
    assert found.helps
    assert set(found.halvings.values()) == {0}


def test_only_classes_that_were_shipped_and_taught_are_adapted(built, elsewhere):
    rows, labels = elsewhere.taught({0: 6, 1: 6, 5: 6}, 5)
    _, found = chosen(built, rows, labels)
    assert set(found.halvings) == {name(0), name(1)}


def test_pictures_of_new_classes_alone_are_refused(built, elsewhere):
    rows, labels = elsewhere.taught({5: 6}, 5)
    with pytest.raises(LearningError, match="nothing was taught of a shipped class"):
        chosen(built, rows, labels)


def test_more_pictures_than_folds_are_left_out_in_groups(built, elsewhere):
    rows, labels = elsewhere.taught(dict.fromkeys(range(4), 20), 5)
    assert chosen(built, rows, labels)[1].pictures == 80


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_every_solver_can_be_adapted(built, elsewhere, solver):
    rows, labels = elsewhere.taught(TAUGHT, 5)
    statistics = built.statistics.copy()
    statistics.add(rows, labels)
    assert 0 <= adapt(solver, {}, statistics, rows, labels, statistics.labels, {}).after <= 1


class TestConditionWeights:
    def test_full_weight_changes_nothing(self, built, elsewhere):
        rows, labels = elsewhere.taught(TAUGHT, 5)
        statistics, _ = chosen(built, rows, labels)
        plain, weighed = Moments.of(statistics), ConditionWeights.of(rows, labels, {}).moments(statistics)
        assert np.array_equal(plain.means, weighed.means)
        assert np.array_equal(plain.scatter, weighed.scatter)
        assert plain.freedom == weighed.freedom

    def test_halving_once_equals_shipping_half_as_many(self, world):
        """Shipped twice over, and halved, the means are those of having been shipped once."""
        once, once_labels = world.taught({0: 10, 1: 10}, 1)
        rows, labels = world.taught({0: 4, 1: 4}, 2)
        single, double = Statistics(), Statistics()
        single.add(np.concatenate([once, rows]), once_labels + labels)
        double.add(np.concatenate([once, once, rows]), once_labels * 2 + labels)
        wanted = Moments.of(single)
        found = ConditionWeights.of(rows, labels, dict.fromkeys(double.labels, 1)).moments(double)
        assert found.counts == pytest.approx(wanted.counts)
        assert found.means == pytest.approx(wanted.means)
        extra = Statistics()
        extra.add(once, once_labels)
        assert found.scatter == pytest.approx(wanted.scatter + Moments.of(extra).scatter, abs=1e-9)
        assert found.freedom == Moments.of(double).freedom

    def test_the_statistics_do_not_change(self, built, elsewhere):
        rows, labels = elsewhere.taught(TAUGHT, 5)
        statistics, found = chosen(built, rows, labels)
        before = statistics.to_bytes()
        ConditionWeights.of(rows, labels, found.halvings, found.spanned).moments(statistics)
        assert statistics.to_bytes() == before

    def test_a_class_that_was_not_taught_keeps_its_weight(self, built, elsewhere):
        rows, labels = elsewhere.taught({0: 6}, 5)
        statistics, _ = chosen(built, rows, labels)
        halvings = {name(c): 6 for c in COUNTS}
        counts = ConditionWeights.of(rows, labels, halvings).moments(statistics).counts
        assert counts.tolist() == [6 + 30 / 64, 30, 30, 30]

    def test_spanning_equals_teaching_as_many_as_were_shipped(self, world):
        """The same pictures taught over and over: means and counts differ, the difference between them does not."""
        rows, labels = world.taught({0: 12, 1: 12}, 1)
        new, new_labels = world.taught({0: 4, 1: 4}, 2)
        once, thrice = Statistics(), Statistics()
        once.add(np.concatenate([rows, new]), labels + new_labels)
        thrice.add(np.concatenate([rows, new, new, new]), labels + new_labels * 3)
        found = ConditionWeights.of(new, new_labels, {}, once.labels).moments(once)
        twice_more = Statistics()
        twice_more.add(np.concatenate([new, new]), new_labels * 2)
        repeated = Moments.of(twice_more).scatter
        assert found.scatter == pytest.approx(Moments.of(thrice).scatter - repeated, abs=1e-9)
        assert np.array_equal(found.means, Moments.of(once).means)
        assert np.array_equal(found.counts, Moments.of(once).counts)
