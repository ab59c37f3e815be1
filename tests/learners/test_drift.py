"""Drift is detected if pictures look different, and rarely if they do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgetl.learners import GRID, Baseline, Statistics, Window, assess_drift, choose, relearn
from edgetl.learners.drift import CHANGED, DRIFTING, STABLE, UNKNOWN, Level, Residuals, Signal
from edgetl.learners.moments import Moments

COUNTS = dict.fromkeys(range(4), 40)
GUARDED = dict.fromkeys(range(4), 15)


class Device:
    """A last layer that was built on a world, with a guard set, and what it makes of other pictures."""

    def __init__(self, world):
        rows, labels = world.taught(COUNTS, 0)
        self.built = choose(rows, labels, np.arange(len(labels)) % 4)
        guard, _ = world.taught(GUARDED, 1)
        layer = relearn(self.built.last_layer, self.built.statistics, self.built.parameters)
        self.baseline = Baseline.of(layer, self.built.statistics, self.built.parameters, guard)

    def window(self, rows) -> Window:
        layer = self.built.last_layer
        probabilities = layer.probabilities(rows)
        found = np.array(layer.labels)[probabilities.argmax(axis=1)]
        return Window(
            Counter(found.tolist()),
            {label: rows[found == label].sum(axis=0, dtype=np.int64) for label in set(found.tolist())},
            float(layer.novelty(rows).sum()),
            float(probabilities.max(axis=1).sum()),
        )

    def assess(self, window: Window, baseline=None):
        return assess_drift(window, self.built.statistics, self.built.parameters, baseline)

    def shift(self, rows) -> float:
        return self.assess(self.window(rows)).signals["shift"].value


@pytest.fixture(scope="module")
def device(world) -> Device:
    return Device(world)


@pytest.fixture(scope="module")
def brighter(world):
    """Every number a little higher, whatever the class."""
    return replace(world, means=world.means + np.random.default_rng(3).normal(size=48))


@pytest.mark.parametrize("per_class", [5, 12, 50])
def test_pictures_like_the_learned_ones_rarely_raise_an_alarm(device, world, per_class):
    draws = (world.taught(dict.fromkeys(range(4), per_class), 100 + seed)[0] for seed in range(80))
    verdicts = Counter(device.assess(device.window(rows), device.baseline).verdict for rows in draws)
    assert verdicts[STABLE] >= 76


def test_pictures_of_a_single_class_are_no_drift(device, world):
    verdicts = [device.assess(device.window(world.draw(c, 40, 7)), device.baseline).verdict for c in COUNTS]
    assert verdicts.count(STABLE) >= 3
    assert CHANGED not in verdicts


@pytest.mark.parametrize("with_guard_set", [True, False])
def test_a_shift_of_everything_is_a_change(device, brighter, with_guard_set):
    rows, _ = brighter.taught(dict.fromkeys(range(4), 8), 5)
    drift = device.assess(device.window(rows), device.baseline if with_guard_set else None)
    assert drift.verdict == CHANGED
    assert drift.signals["shift"].severity == 2
    assert ("confidence" in drift.signals) == with_guard_set


def test_a_smaller_shift_is_drift(device, world):
    slightly = replace(world, means=world.means + 0.1 * np.random.default_rng(3).normal(size=48))
    rows, _ = slightly.taught(dict.fromkeys(range(4), 20), 5)
    assert device.assess(device.window(rows), device.baseline).verdict == DRIFTING


def test_few_pictures_and_labels_that_no_longer_exist_give_no_verdict(device, world):
    rows, _ = world.taught(dict.fromkeys(range(4), 4), 5)
    assert device.assess(device.window(rows), device.baseline).verdict == UNKNOWN
    window = device.window(world.taught(dict.fromkeys(range(4), 10), 5)[0])
    assert device.assess(replace(window, counts={"gone": 40}), device.baseline).verdict == UNKNOWN


def test_the_shift_from_sums_equals_that_over_all_pairs_of_different_labels(device, world):
    """From sums alone comes what all the embeddings would give."""
    rows, _ = world.taught(dict.fromkeys(range(4), 6), 9)
    layer, statistics = device.built.last_layer, device.built.statistics
    found = np.array(layer.labels)[layer.scores(rows).argmax(axis=1)]
    residuals = Residuals(Moments.of(statistics), statistics.labels, rows / GRID, device.built.parameters)
    products = residuals.products(found.tolist())
    assert device.shift(rows) == pytest.approx(products[found[:, None] != found].mean())


def test_known_pictures_have_no_shift_on_average(device, world):
    shifts = [device.shift(world.taught(dict.fromkeys(range(4), 5), 200 + seed)[0]) for seed in range(60)]
    assert abs(np.mean(shifts)) < 0.01


def test_classes_that_each_change_in_their_own_way_have_no_shift_in_common(device, world):
    """As photos of known things in other places do."""
    apart, together = [], []
    for seed in range(12):
        moved = 0.25 * np.random.default_rng(seed).normal(size=world.means.shape)
        elsewhere = replace(world, means=world.means + moved)
        darker = replace(world, means=world.means + moved[0])
        apart.append(device.shift(elsewhere.taught(dict.fromkeys(range(4), 10), seed)[0]))
        together.append(device.shift(darker.taught(dict.fromkeys(range(4), 10), seed)[0]))
    assert abs(np.mean(apart)) < 0.1 * np.mean(together)


def test_a_spread_between_known_labels_widens_the_limits():
    chance = np.random.default_rng(0).normal(scale=0.1, size=(6, 30)).astype(np.float32)
    labels = [f"class {number}" for number in range(6) for _ in range(30)]
    alike = Level.of(labels, (0.5 + chance).ravel())
    uneven = Level.of(labels, (0.5 + chance + np.linspace(-0.3, 0.3, 6)[:, None]).ravel())
    window = Counter(labels)
    assert alike.label_spread < 0.05
    assert uneven.label_spread == pytest.approx(0.22, abs=0.03)
    assert uneven.chance(window) > 3 * alike.chance(window)


def test_extreme_novelty_is_detected_despite_an_uneven_guard_set(device, world):
    uneven = replace(device.baseline, novelty=replace(device.baseline.novelty, label_spread=0.4))
    window = device.window(world.draw(0, 40, 7))
    strange = replace(window, novelty=0.99 * window.pictures)
    assert device.assess(window, uneven).verdict == STABLE
    assert device.assess(strange, uneven).verdict == CHANGED


def test_few_guard_pictures_widen_the_limits():
    few, many = (Level.of(["class"] * count, np.linspace(0, 1, count)) for count in (10, 1000))
    assert few.chance({"class": 50}) > 2 * many.chance({"class": 50})


@pytest.mark.parametrize(("value", "severity"), [(0.4, 0), (0.7, 1), (0.9, 2)])
def test_a_signal_can_pass_its_limits_upward_or_downward(value, severity):
    assert Signal(value, 0.5, 0.6, 0.8).severity == severity
    assert Signal(-value, -0.5, -0.6, -0.8).severity == severity


def test_it_converts_to_json(device, brighter):
    document = device.assess(
        device.window(brighter.taught(dict.fromkeys(range(4), 8), 5)[0]), device.baseline
    ).to_dict()
    assert document["pictures"] == 32
    assert set(document["signals"]["shift"]) == {"value", "usual", "drifting", "changed"}


def test_the_statistics_do_not_change(device, world):
    before = device.built.statistics.to_bytes()
    device.assess(device.window(world.taught(COUNTS, 3)[0]), device.baseline)
    assert Statistics.from_bytes(before) == device.built.statistics
