"""Fixtures for the tests of training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tf_keras

from tests.training.tasks import Task, embed, make_task, nearest_mean, stripes


@pytest.fixture
def task() -> Task:
    return make_task(*stripes(96, np.random.default_rng(0)))


@pytest.fixture
def accuracy() -> Callable[[tf_keras.Model, Task], float]:
    """The accuracy on the validation images of a nearest-mean last layer solved on the training images."""

    def measure(model: tf_keras.Model, task: Task) -> float:
        embeddings = embed(model, task.frames.frames)
        layer = nearest_mean(embeddings[task.training], task.labels[task.training])
        predicted = (embeddings[task.validation] @ layer.weights + layer.bias).argmax(axis=1)
        return float(np.mean(predicted == task.labels[task.validation]))

    return measure
