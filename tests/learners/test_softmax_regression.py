"""Softmax regression learns, and forgets less with replay."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.errors import LearningError
from edgetl.learners.softmax_regression import SoftmaxOptions, SoftmaxRegression
from tests.learners.conftest import name


def accuracy(model: SoftmaxRegression, world, labels) -> float:
    hits = [model.scores(world.draw(k, 100, 40)).argmax(axis=1) == model.labels.index(name(k)) for k in labels]
    return float(np.mean(hits))


def test_it_separates_the_classes(world):
    model = SoftmaxRegression()
    model.learn(*world.taught({0: 40, 1: 40, 2: 40}, 0))
    assert accuracy(model, world, (0, 1, 2)) > 0.6


def test_it_forgets_less_with_replay(world):
    left = {}
    for replay in (0, 20):
        model = SoftmaxRegression(SoftmaxOptions(replay=replay))
        for pair in ((0, 1), (2, 3)):
            model.learn(*world.taught(dict.fromkeys(pair, 40), 0))
        left[replay] = accuracy(model, world, (0, 1))
    assert left[0] < left[20]


def test_the_same_seed_gives_the_same_bits(world):
    scores = []
    for _ in range(2):
        model = SoftmaxRegression(SoftmaxOptions(seed=3))
        model.learn(*world.taught({0: 10, 1: 10}, 0))
        scores.append(model.scores(world.draw(0, 5, 1)))
    assert np.array_equal(*scores)


def test_labels_that_do_not_fit_are_refused(world):
    with pytest.raises(LearningError, match="one for each"):
        SoftmaxRegression().learn(world.draw(0, 3, 0), ["a"])
