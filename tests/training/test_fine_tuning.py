from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import tf_keras

from edgetl.errors import TrainingError
from edgetl.training import AugmentationOptions, FineTuned, FineTuneOptions, fine_tune, fold, from_scratch
from tests.training.tasks import Task, make_task, stripes

STEADY = AugmentationOptions(flip=False, smallest_area=0.8, rotation_degrees=0)
OPTIONS = FineTuneOptions(
    epochs_upper=1, epochs_all=9, batch_size=16, learning_rate=3e-2, train_scale=1.0, augmentation=STEADY
)


class Course(NamedTuple):
    """A fine-tuning, and what it told on the way."""

    task: Task
    before: np.ndarray
    tuned: FineTuned
    told: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def course() -> Course:
    task = make_task(*stripes(96, np.random.default_rng(0)))
    before, told = weights_of(task.model), []
    return Course(task, before, fine_tune(*task, options=OPTIONS, progress=lambda *step: told.append(step)), told)


def weights_of(model: tf_keras.Model) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def test_embeddings_tell_the_classes_apart_better_than_before(course, accuracy):
    assert accuracy(course.tuned.model, course.task) > accuracy(course.task.model, course.task)


def test_the_result_fits_where_the_backbone_was(course):
    given, tuned = course.task.model, course.tuned.model
    assert (tuned.name, tuned.input_shape, tuned.output_shape) == (given.name, given.input_shape, given.output_shape)


def test_the_given_backbone_is_untouched(course):
    assert np.array_equal(weights_of(course.task.model), course.before)


def test_the_same_seed_gives_the_same_weights(course):
    again = fine_tune(*course.task, options=OPTIONS)
    assert np.array_equal(weights_of(course.tuned.model), weights_of(again.model))


def test_another_seed_gives_other_weights(course):
    other = fine_tune(*course.task, options=replace(OPTIONS, seed=1))
    assert not np.array_equal(weights_of(course.tuned.model), weights_of(other.model))


def test_every_step_and_epoch_is_told(course):
    steps = OPTIONS.epochs * 5  # epochs of 72 images in batches of 16
    assert course.told == [("fine-tuning", step, steps) for step in range(1, steps + 1)]
    history = course.tuned.history
    assert [record["epoch"] for record in history] == list(range(1, OPTIONS.epochs + 1))
    assert [record["phase"] for record in history] == ["upper layers"] + ["all layers"] * OPTIONS.epochs_all


def test_the_best_epoch_is_kept(course):
    losses = [record["validation_loss"] for record in course.tuned.history]
    assert losses[course.tuned.best_epoch - 1] == min(losses)


def test_images_are_read_a_batch_at_a_time(course):
    assert course.task.frames.largest_batch <= OPTIONS.batch_size


def test_what_is_kept_lies_between_the_start_and_the_end(course):
    start = weights_of(fold(course.task.model))
    near = fine_tune(*course.task, options=replace(OPTIONS, kept_share=0.25))
    whole = fine_tune(*course.task, options=replace(OPTIONS, kept_share=1.0))
    np.testing.assert_allclose(weights_of(near.model), 0.75 * start + 0.25 * weights_of(whole.model), atol=1e-5)


def test_it_stops_when_validation_no_longer_improves(task):
    harmful = replace(OPTIONS, epochs_all=30, learning_rate=0.9, patience=2)
    tuned = fine_tune(*task, options=harmful)
    assert len(tuned.history) == tuned.best_epoch + 2 < 31


def test_without_validation_images_the_last_epoch_is_kept(task):
    options = replace(OPTIONS, epochs_all=1, augmentation=replace(STEADY, flip=None))
    tuned = fine_tune(*task._replace(validation=np.array([], int)), options=options)
    assert tuned.best_epoch == options.epochs
    assert not tuned.flip


def test_fewer_images_than_a_batch_are_enough(task):
    tuned = fine_tune(*task._replace(training=task.training[:6]), options=replace(OPTIONS, epochs_all=1))
    assert len(tuned.history) == 2


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(course, tmp_path):
    options = replace(OPTIONS, checkpoint=tmp_path / "fine-tuning.npz")

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(*course.task, options=options, progress=interrupt)
    told: list[int] = []
    resumed = fine_tune(*course.task, options=options, progress=lambda what, done, total: told.append(done))
    assert told[0] == 16  # the first step of the epoch that was broken off
    assert np.array_equal(weights_of(resumed.model), weights_of(course.tuned.model))


def test_a_finished_training_is_not_repeated(task, tmp_path):
    options = replace(OPTIONS, epochs_all=1, checkpoint=tmp_path / "fine-tuning.npz")
    first = fine_tune(*task, options=options)
    told: list[int] = []
    again = fine_tune(*task, options=options, progress=lambda what, done, total: told.append(done))
    assert not told
    assert np.array_equal(weights_of(first.model), weights_of(again.model))
    assert again.history == first.history


def test_a_loss_that_is_no_number_ends_the_training_with_advice(task):
    broken = task.start._replace(weights=np.full_like(task.start.weights, np.nan))
    with pytest.raises(TrainingError, match="choose a smaller one"):
        fine_tune(*task._replace(start=broken), options=OPTIONS)


def arrows(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bright to the left, to the right, nowhere: a mirror swaps the first two."""
    labels = np.arange(count) % 3
    ramp = np.linspace(-100, 100, 32)
    slope = np.stack([ramp, -ramp, 0 * ramp])[labels][:, None, :, None]
    return np.clip(127 + slope + rng.normal(0, 10, (count, 32, 32, 3)), 0, 255).astype(np.uint8), labels


@pytest.mark.parametrize(("photos", "flips"), [(stripes, True), (arrows, False)])
def test_images_are_mirrored_only_where_that_keeps_their_meaning(photos, flips):
    """The backbone sees where the light is, so that its last layer tells left from right."""
    image = x = tf_keras.layers.Input((32, 32, 3))
    x = tf_keras.layers.AveragePooling2D(8)(x)
    x = tf_keras.layers.Conv2D(16, 4, activation="relu")(x)
    seeing = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    task = make_task(*photos(96, np.random.default_rng(0)), model=seeing)
    unsure = replace(OPTIONS, epochs_all=1, augmentation=replace(STEADY, flip=None))
    assert fine_tune(*task, options=unsure).flip is flips


def test_a_rare_class_weighs_as_much_as_a_common_one(task, accuracy):
    rare = task.training[task.labels[task.training] == 2][:4]
    common = task.training[task.labels[task.training] != 2]
    tuned = fine_tune(*task._replace(training=np.concatenate([common, rare])), options=OPTIONS)
    assert tuned.history[-1]["validation_accuracy"] > 0.6


def test_training_from_scratch_starts_knowing_nothing_and_learns(task: Task):
    told: list[int] = []
    model, normalization, frames, labels, training, validation, _ = task
    trained = from_scratch(
        model, normalization, frames, labels, training, validation, OPTIONS, lambda what, done, total: told.append(done)
    )
    assert len(told) == OPTIONS.epochs * 5
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_training_from_scratch_answers_by_what_it_learned_after_few_steps(task: Task):
    model, normalization, frames, labels, training, validation, _ = task
    options = replace(OPTIONS, epochs_all=14)
    trained = from_scratch(model, normalization, frames, labels, training, validation, options)
    assert trained.history[-1]["validation_accuracy"] > 0.8
