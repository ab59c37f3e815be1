"""A student learns what its teacher answers, and where the teacher puts an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgetl.runtime import Embedder, Preprocess
from edgetl.training import (
    NO_LABEL,
    AugmentationOptions,
    CompiledTeacher,
    DistillationOptions,
    FineTuneOptions,
    Teacher,
    fine_tune,
)
from tests.models import TINY_DIMENSION, TINY_SIZE
from tests.training.tasks import LastLayer, embed, make_task, stripes

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


def test_embeddings_come_closer_to_the_teachers(task, teacher):
    alone = fine_tune(*task, options=OPTIONS).model
    taught = learned(task, teacher, answers=0.0, embedding=100.0)
    assert distance(taught, teacher, task) < 0.5 * distance(alone, teacher, task)


def test_a_teacher_who_knows_better_is_believed_more_than_wrong_labels(task, teacher, accuracy):
    wrong = np.random.default_rng(0).integers(0, 3, len(task.labels))
    misled = task._replace(labels=np.where(np.isin(np.arange(96), task.training), wrong, task.labels))
    alone = fine_tune(*misled, options=OPTIONS).model
    taught = learned(misled, teacher, answers=1.0, embedding=0.0)
    assert accuracy(taught, task) > accuracy(alone, task)


def test_images_without_a_label_are_learned_from_a_teacher_alone(task, teacher):
    few = np.concatenate([task.training[task.labels[task.training] == label][:2] for label in range(3)])
    unlabelled = np.setdiff1d(task.training, few)
    labels = task.labels.copy()
    labels[unlabelled] = NO_LABEL
    without = learned(task._replace(training=few), teacher, embedding=100.0)
    taught = learned(task._replace(labels=labels), teacher, embedding=100.0)
    assert distance(taught, teacher, task) < 0.8 * distance(without, teacher, task)


def test_the_same_seed_gives_the_same_weights(task, teacher):
    once, again = (learned(task, teacher).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again))


def test_the_teacher_stays_as_it_is(task, teacher):
    before = teacher.model.get_weights()
    learned(task, teacher)
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.model.get_weights()))


def test_a_compiled_model_of_another_architecture_teaches_its_answers(task, tiny_model):
    backbone = Embedder(tiny_model, Preprocess(*TINY_SIZE))
    always_first = LastLayer(np.zeros((TINY_DIMENSION, 3), np.float32), np.array([9.0, 0.0, 0.0]), 1.0)
    taught = learned(task, CompiledTeacher(backbone, always_first), answers=1.0)
    alone = learned(task, CompiledTeacher(backbone, always_first), answers=0.0)
    own = fine_tune(*task, options=OPTIONS).model
    assert all(np.array_equal(a, b) for a, b in zip(own.get_weights(), alone.get_weights()))
    assert not all(np.array_equal(a, b) for a, b in zip(own.get_weights(), taught.get_weights()))

