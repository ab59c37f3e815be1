"""Drift is told where pictures no longer look as they did, and hardly ever where they do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edgetl.learners import GRID, Statistics, Usual, Window, choose, judge, relearn
from edgetl.learners.drift import CHANGED, DRIFTING, STABLE, UNKNOWN, Residuals, Signal
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
        self.usual = Usual.of(layer, self.built.statistics, self.built.parameters, guard)

    def window(self, rows) -> Window:
        layer = self.built.last_layer
        probabilities = layer.probabilities(rows)
        return Window(
            Counter(layer.labels[slot] for slot in probabilities.argmax(axis=1)),
            rows.sum(axis=0, dtype=np.int64),
            float(layer.novelty(rows).sum()),
            float(probabilities.max(axis=1).sum()),
        )

    def judge(self, window: Window, usual=None):
        return judge(window, self.built.statistics, self.built.parameters, usual)

    def residuals(self, rows) -> Residuals:
        statistics = self.built.statistics
        return Residuals(Moments.of(statistics), statistics.labels, rows / GRID, self.built.parameters)


@pytest.fixture(scope="module")
def device(world) -> Device:
    return Device(world)


@pytest.fixture(scope="module")
def brighter(world):
    """Every number a little higher, whatever the class."""
    return replace(world, means=world.means + np.random.default_rng(3).normal(size=48))


@pytest.mark.parametrize("per_class", [5, 12, 50])
def test_pictures_like_those_learned_hardly_ever_raise_an_alarm(device, world, per_class):
    draws = (world.taught(dict.fromkeys(range(4), per_class), 100 + seed)[0] for seed in range(40))
    verdicts = Counter(device.judge(device.window(rows), device.usual).verdict for rows in draws)
    assert verdicts[STABLE] >= 38


def test_one_class_alone_is_no_drift(device, world):
    verdicts = [device.judge(device.window(world.draw(c, 40, 7)), device.usual).verdict for c in COUNTS]
    assert verdicts.count(STABLE) >= 3
    assert CHANGED not in verdicts


@pytest.mark.parametrize("with_guard_set", [True, False])
def test_a_shift_of_everything_is_a_change(device, brighter, with_guard_set):
    rows, _ = brighter.taught(dict.fromkeys(range(4), 8), 5)
    drift = device.judge(device.window(rows), device.usual if with_guard_set else None)
    assert drift.verdict == CHANGED
    assert drift.signals["shift"].severity == 2
    assert ("confidence" in drift.signals) == with_guard_set


def test_a_smaller_shift_is_drift(device, world):
    slightly = replace(world, means=world.means + 0.1 * np.random.default_rng(3).normal(size=48))
    rows, _ = slightly.taught(dict.fromkeys(range(4), 20), 5)
    assert device.judge(device.window(rows), device.usual).verdict == DRIFTING


def test_few_pictures_and_labels_that_are_gone_tell_nothing(device, world):
    rows, _ = world.taught(dict.fromkeys(range(4), 4), 5)
    assert device.judge(device.window(rows), device.usual).verdict == UNKNOWN
    window = device.window(world.taught(dict.fromkeys(range(4), 10), 5)[0])
    assert device.judge(replace(window, counts={"gone": 40}), device.usual).verdict == UNKNOWN


def test_the_shift_is_that_of_single_embeddings(device, world):
    """From sums alone comes what all the embeddings would give."""
    rows, labels = world.taught(dict.fromkeys(range(4), 6), 9)
    single, mean = device.residuals(rows), device.residuals(rows.mean(axis=0)[None])
    shares = np.full(len(rows), 1 / len(rows))
    assert mean.shift_of_mean(Counter(labels)) == pytest.approx(single.shift(shares, labels))


def test_known_pictures_have_no_shift_on_average(device, world):
    shifts = []
    for seed in range(60):
        rows, labels = world.taught(dict.fromkeys(range(4), 5), 200 + seed)
        shifts.append(device.residuals(rows.mean(axis=0)[None]).shift_of_mean(Counter(labels)))
    assert abs(np.mean(shifts)) < 0.01


@pytest.mark.parametrize(("value", "severity"), [(0.4, 0), (0.7, 1), (0.9, 2)])
def test_a_signal_passes_its_limits_upward_or_downward(value, severity):
    assert Signal(value, 0.5, 0.6, 0.8).severity == severity
    assert Signal(-value, -0.5, -0.6, -0.8).severity == severity


def test_it_speaks_json(device, brighter):
    told = device.judge(device.window(brighter.taught(dict.fromkeys(range(4), 8), 5)[0]), device.usual).to_dict()
    assert told["pictures"] == 32
    assert set(told["signals"]["shift"]) == {"value", "usual", "drifting", "changed"}


def test_the_statistics_are_left_as_they_were(device, world):
    before = device.built.statistics.to_bytes()
    device.judge(device.window(world.taught(COUNTS, 3)[0]), device.usual)
    assert Statistics.from_bytes(before) == device.built.statistics
