from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tf_keras

from edgetl.errors import TrainingError
from edgetl.training import AugmentationOptions, FineTuneOptions, fine_tune, from_scratch
from tests.training.tasks import Task, make_task, stripes

STEADY = AugmentationOptions(flip=False, smallest_area=0.8, rotation_degrees=0)
OPTIONS = FineTuneOptions(
    epochs_upper=1, epochs_all=5, batch_size=16, learning_rate=3e-2, train_scale=1.0, augmentation=STEADY
)


def weights_of(model: tf_keras.Model) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def test_embeddings_tell_the_classes_apart_better_than_before(task, accuracy):
    tuned = fine_tune(*task, options=replace(OPTIONS, epochs_all=15))
    assert accuracy(tuned.model, task) > accuracy(task.model, task)


def test_the_result_fits_where_the_backbone_was_and_the_backbone_is_untouched(task):
    before = weights_of(task.model)
    tuned = fine_tune(*task, options=OPTIONS)
    assert tuned.model.input_shape == task.model.input_shape
    assert tuned.model.output_shape == task.model.output_shape
    assert tuned.model.name == task.model.name
    assert np.array_equal(weights_of(task.model), before)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(task):
    first, again = (fine_tune(*task, options=OPTIONS) for _ in range(2))
    other = fine_tune(*task, options=replace(OPTIONS, seed=1))
    assert np.array_equal(weights_of(first.model), weights_of(again.model))
    assert not np.array_equal(weights_of(first.model), weights_of(other.model))


def test_every_epoch_is_told(task):
    told: list[tuple[str, int, int]] = []
    tuned = fine_tune(*task, options=OPTIONS, progress=lambda *step: told.append(step))
    steps = 6 * 5  # epochs of 72 images in batches of 16
    assert told == [("fine-tuning", step, steps) for step in range(1, steps + 1)]
    assert [record["epoch"] for record in tuned.history] == [1, 2, 3, 4, 5, 6]
    assert (
        min(record["validation_loss"] for record in tuned.history)
        == (tuned.history[tuned.best_epoch - 1]["validation_loss"])
    )


def test_images_are_read_a_batch_at_a_time(task):
    fine_tune(*task, options=OPTIONS)
    assert task.frames.largest_batch <= OPTIONS.batch_size


def test_it_stops_when_validation_no_longer_improves(task):
    harmful = replace(OPTIONS, epochs_all=30, learning_rate=0.9, patience=2)
    tuned = fine_tune(*task, options=harmful)
    assert len(tuned.history) == tuned.best_epoch + 2 < 31


def test_without_validation_images_the_last_epoch_is_kept(task):
    tuned = fine_tune(*task._replace(validation=np.array([], int)), options=OPTIONS)
    assert tuned.best_epoch == OPTIONS.epochs
    assert not tuned.flip


def test_fewer_images_than_a_batch_are_enough(task):
    tuned = fine_tune(*task._replace(training=task.training[:6]), options=OPTIONS)
    assert len(tuned.history) == OPTIONS.epochs


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(task, tmp_path):
    options = replace(OPTIONS, checkpoint=tmp_path / "fine-tuning.npz")

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(*task, options=options, progress=interrupt)
    told: list[int] = []
    resumed = fine_tune(*task, options=options, progress=lambda what, done, total: told.append(done))
    whole = fine_tune(*task, options=OPTIONS)
    assert told[0] == 16  # the first step of the epoch that was broken off
    assert np.array_equal(weights_of(resumed.model), weights_of(whole.model))


def test_a_finished_training_is_not_repeated(task, tmp_path):
    options = replace(OPTIONS, checkpoint=tmp_path / "fine-tuning.npz")
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
    tuned = fine_tune(*task._replace(training=np.concatenate([common, rare])), options=replace(OPTIONS, epochs_all=15))
    assert tuned.history[-1]["validation_accuracy"] > 0.6


def test_training_from_scratch_starts_knowing_nothing_and_learns(task: Task):
    told: list[int] = []
    model, normalization, frames, labels, training, validation, _ = task
    trained = from_scratch(
        model, normalization, frames, labels, training, validation, OPTIONS, lambda what, done, total: told.append(done)
    )
    assert len(told) == OPTIONS.epochs * 5
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
