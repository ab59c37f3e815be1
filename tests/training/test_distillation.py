"""A student learns the answers and the embeddings of its teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgetl.training import (
    NO_LABEL,
    AugmentationOptions,
    DistillationOptions,
    FineTuneOptions,
    Teacher,
    fine_tune,
)
from tests.training.tasks import embed, make_task, stripes

STEADY = AugmentationOptions(flip=False, smallest_area=0.8, rotation_degrees=0, mixup=0)
OPTIONS = FineTuneOptions(
    epochs_upper=0, epochs_all=6, batch_size=16, learning_rate=3e-2, train_scale=1.0, kept_share=1.0,
    augmentation=STEADY,
)  # fmt: skip


@pytest.fixture(scope="module")
def task():
    return make_task(*stripes(96, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def teacher(task):
    tuned = fine_tune(*task, options=replace(OPTIONS, epochs_all=12))
    trained = make_task(task.frames.frames, task.labels, tuned.model)
    return Teacher(tuned.model, task.normalization, trained.start)


def distance(model, teacher, task):
    return np.square(embed(model, task.frames.frames) - embed(teacher.model, task.frames.frames)).sum(axis=1).mean()


def learned(task, teacher, **distillation):
    options = replace(OPTIONS, distillation=DistillationOptions(**distillation))
    return fine_tune(*task, options=options, teacher=teacher).model


def test_embeddings_move_towards_the_teachers(task, teacher):
    alone = fine_tune(*task, options=OPTIONS).model
    student = learned(task, teacher, answers=0.0, embedding=100.0)
    assert distance(student, teacher, task) < 0.5 * distance(alone, teacher, task)


def test_a_good_teacher_outweighs_wrong_labels(task, teacher, accuracy):
    wrong = np.random.default_rng(0).integers(0, 3, len(task.labels))
    mislabelled = task._replace(labels=np.where(np.isin(np.arange(96), task.training), wrong, task.labels))
    alone = fine_tune(*mislabelled, options=OPTIONS).model
    student = learned(mislabelled, teacher, answers=1.0, embedding=0.0)
    assert accuracy(student, task) > accuracy(alone, task)


def right(task):
    """The answers, (96, 3), of a model without errors."""
    return np.eye(3, dtype=np.float32)[task.labels]


def answered(task, share, answers):
    options = replace(OPTIONS, distillation=DistillationOptions(answers=share))
    return fine_tune(*task, options=options, answers=answers).model


def test_answers_of_another_model_outweigh_wrong_labels(task, accuracy):
    wrong = np.random.default_rng(0).integers(0, 3, len(task.labels))
    mislabelled = task._replace(labels=np.where(np.isin(np.arange(96), task.training), wrong, task.labels))
    believing, doubting = (answered(mislabelled, share, right(task)) for share in (1.0, 0.0))
    assert accuracy(believing, task) > accuracy(doubting, task)
    alone = fine_tune(*mislabelled, options=OPTIONS).model
    assert all(np.array_equal(a, b) for a, b in zip(doubting.get_weights(), alone.get_weights()))


def test_images_without_a_label_are_learned_from_answers_alone(task, accuracy):
    unlabelled = task.labels.copy()
    unlabelled[task.training] = NO_LABEL
    unlabelled[task.training[:1]] = task.labels[task.training[:1]]
    student = answered(task._replace(labels=unlabelled), 0.5, right(task))
    assert accuracy(student, task) > accuracy(task.model, task)


def test_the_same_seed_gives_the_same_weights(task, teacher):
    once, again = (learned(task, teacher).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again))


def test_the_teacher_is_not_changed(task, teacher):
    before = teacher.model.get_weights()
    learned(task, teacher)
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.model.get_weights()))
