"""Fine-tuning separates the classes better, is reproducible, and continues after an interruption."""

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


class FineTuning(NamedTuple):
    """The input and the result of a fine-tuning, and the progress that it reported."""

    task: Task
    before: np.ndarray
    tuned: FineTuned
    reported: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def finished() -> FineTuning:
    task = make_task(*stripes(96, np.random.default_rng(0)))
    before, reported = weights_of(task.model), []
    tuned = fine_tune(*task, options=OPTIONS, progress=lambda *step: reported.append(step))
    return FineTuning(task, before, tuned, reported)


def weights_of(model: tf_keras.Model) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def test_embeddings_separate_the_classes_better_than_before(finished, accuracy):
    assert accuracy(finished.tuned.model, finished.task) > accuracy(finished.task.model, finished.task)


def test_the_result_has_the_input_and_output_of_the_backbone(finished):
    original, tuned = finished.task.model, finished.tuned.model
    assert (tuned.name, tuned.input_shape, tuned.output_shape) == (
        original.name,
        original.input_shape,
        original.output_shape,
    )


def test_the_given_backbone_is_not_changed(finished):
    assert np.array_equal(weights_of(finished.task.model), finished.before)


def test_the_same_seed_gives_the_same_weights(finished):
    again = fine_tune(*finished.task, options=OPTIONS)
    assert np.array_equal(weights_of(finished.tuned.model), weights_of(again.model))


def test_another_seed_gives_other_weights(finished):
    other = fine_tune(*finished.task, options=replace(OPTIONS, seed=1))
    assert not np.array_equal(weights_of(finished.tuned.model), weights_of(other.model))


def test_every_step_and_epoch_is_reported(finished):
    steps = OPTIONS.epochs * 5  # epochs of 72 images in batches of 16
    assert finished.reported == [("fine-tuning", step, steps) for step in range(1, steps + 1)]
    history = finished.tuned.history
    assert [record["epoch"] for record in history] == list(range(1, OPTIONS.epochs + 1))
    assert [record["phase"] for record in history] == ["upper layers"] + ["all layers"] * OPTIONS.epochs_all


def test_the_best_epoch_is_kept(finished):
    losses = [record["validation_loss"] for record in finished.tuned.history]
    assert losses[finished.tuned.best_epoch - 1] == min(losses)


def test_images_are_read_a_batch_at_a_time(finished):
    assert finished.task.frames.largest_batch <= OPTIONS.batch_size


def test_the_result_lies_between_the_initial_and_the_best_weights(finished):
    initial = weights_of(fold(finished.task.model))
    near = fine_tune(*finished.task, options=replace(OPTIONS, kept_share=0.25))
    whole = fine_tune(*finished.task, options=replace(OPTIONS, kept_share=1.0))
    np.testing.assert_allclose(weights_of(near.model), 0.75 * initial + 0.25 * weights_of(whole.model), atol=1e-5)


def test_training_stops_when_validation_no_longer_improves(task):
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


def test_an_interrupted_training_continues_with_the_same_result(finished, tmp_path):
    options = replace(OPTIONS, checkpoint=tmp_path / "fine-tuning.npz")

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(*finished.task, options=options, progress=interrupt)
    reported: list[int] = []
    resumed = fine_tune(*finished.task, options=options, progress=lambda what, done, total: reported.append(done))
    assert reported[0] == 16  # the first step of the interrupted epoch
    assert np.array_equal(weights_of(resumed.model), weights_of(finished.tuned.model))


def test_a_finished_training_is_not_repeated(task, tmp_path):
    options = replace(OPTIONS, epochs_all=1, checkpoint=tmp_path / "fine-tuning.npz")
    first = fine_tune(*task, options=options)
    reported: list[int] = []
    again = fine_tune(*task, options=options, progress=lambda what, done, total: reported.append(done))
    assert not reported
    assert np.array_equal(weights_of(first.model), weights_of(again.model))
    assert again.history == first.history


def test_a_loss_that_is_nan_is_an_error_with_advice(task):
    broken = task.start._replace(weights=np.full_like(task.start.weights, np.nan))
    with pytest.raises(TrainingError, match="choose a smaller one"):
        fine_tune(*task._replace(start=broken), options=OPTIONS)


def arrows(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images brighter to the left, to the right, or evenly: mirroring swaps the first two classes."""
    labels = np.arange(count) % 3
    ramp = np.linspace(-100, 100, 32)
    slope = np.stack([ramp, -ramp, 0 * ramp])[labels][:, None, :, None]
    return np.clip(127 + slope + rng.normal(0, 10, (count, 32, 32, 3)), 0, 255).astype(np.uint8), labels


@pytest.mark.parametrize(("photos", "flips"), [(stripes, True), (arrows, False)])
def test_images_are_mirrored_only_if_they_keep_their_class(photos, flips):
    """The backbone sees which side is brighter, so that its last layer can distinguish left from right."""
    image = x = tf_keras.layers.Input((32, 32, 3))
    x = tf_keras.layers.AveragePooling2D(8)(x)
    x = tf_keras.layers.Conv2D(16, 4, activation="relu")(x)
    seeing = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    task = make_task(*photos(96, np.random.default_rng(0)), model=seeing)
    unsure = replace(OPTIONS, epochs_all=1, augmentation=replace(STEADY, flip=None))
    assert fine_tune(*task, options=unsure).flip is flips


def test_a_rare_class_has_the_weight_of_a_common_one(task, accuracy):
    rare = task.training[task.labels[task.training] == 2][:4]
    common = task.training[task.labels[task.training] != 2]
    tuned = fine_tune(*task._replace(training=np.concatenate([common, rare])), options=OPTIONS)
    assert tuned.history[-1]["validation_accuracy"] > 0.6


def test_training_from_scratch_reduces_the_loss(task: Task):
    reported: list[int] = []
    trained = from_scratch(*task[:-1], OPTIONS, lambda what, done, total: reported.append(done))
    assert len(reported) == OPTIONS.epochs * 5
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_training_from_scratch_predicts_well_after_few_steps(task: Task):
    trained = from_scratch(*task[:-1], replace(OPTIONS, epochs_all=14))
    assert trained.history[-1]["validation_accuracy"] > 0.8
