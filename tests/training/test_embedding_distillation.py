"""A modified backbone learns to reproduce the embeddings of the original, without labels."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from edgetl.errors import TrainingError
from edgetl.training import AugmentationOptions, ImitationOptions, fold, imitate
from tests.training.tasks import SIZE, embed, make_task, stripes

OPTIONS = ImitationOptions(
    steps=60, learning_rate=2e-2, augmentation=AugmentationOptions(smallest_area=0.8, rotation_degrees=0)
)


@pytest.fixture(scope="module")
def task():
    return make_task(*stripes(96, np.random.default_rng(0)))


def damaged(model: tf_keras.Model) -> tf_keras.Model:
    copy = tf_keras.models.clone_model(model)
    rng = np.random.default_rng(1)
    copy.set_weights([weight * rng.uniform(0.6, 1.4, weight.shape) for weight in model.get_weights()])
    return copy


def trained(task, options=OPTIONS, progress=None) -> tf_keras.Model:
    teacher = fold(task.model)
    student = damaged(teacher)
    imitate(student, teacher, task.normalization, task.frames, task.training, (SIZE, SIZE), options, (), progress)
    return student


def test_embeddings_are_restored_also_on_unseen_images(task):
    reported: list[tuple[str, int, int]] = []
    whole = fold(task.model)
    unseen = task.frames.frames[task.validation]
    before, after = (
        np.square(embed(model, unseen) - embed(whole, unseen)).sum(axis=1).mean()
        for model in (damaged(whole), trained(task, progress=lambda *step: reported.append(step)))
    )
    assert after < 0.5 * before
    assert reported == [("distilling embeddings", step, OPTIONS.steps) for step in range(1, OPTIONS.steps + 1)]


def test_the_same_seed_gives_the_same_weights(task):
    once, again = (trained(task).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again))


def test_a_loss_that_is_nan_is_an_error_with_advice(task):
    image = tf_keras.Input((SIZE, SIZE, 3))
    mean = tf_keras.layers.GlobalAveragePooling2D()(tf_keras.layers.Conv2D(16, 1)(image))
    teacher = tf_keras.Model(image, mean)
    teacher.set_weights([np.full_like(weight, np.nan) for weight in teacher.get_weights()])
    size, options = (SIZE, SIZE), ImitationOptions(steps=2)
    with pytest.raises(TrainingError, match="choose a smaller one"):
        imitate(fold(task.model), teacher, task.normalization, task.frames, task.training, size, options)
