"""Folding batch normalisation keeps the function; copies keep the weights."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from edgetl.backbones import build, get_backbone
from edgetl.training.batch_norm_folding import fold, trainable_copy
from tests.training.tasks import small_backbone

layers = tf_keras.layers


def normalizations(model: tf_keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def assert_same_function(one: tf_keras.Model, other: tf_keras.Model) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (2, *one.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(one(images), other(images), rtol=1e-4, atol=1e-5)


def test_a_folded_backbone_is_the_same_function_without_batch_normalization():
    model = small_backbone()
    folded = fold(model)
    assert not normalizations(folded)
    assert_same_function(model, folded)


@pytest.mark.parametrize("name", ["mobilenet-v1-0.25", "mobilenet-v2-0.35", "mobilenet-v3-small"])
def test_every_family_folds_completely(name):
    model = build(get_backbone(name), pretrained=False)
    folded = fold(model)
    assert not normalizations(folded)
    assert (folded.name, folded.input_shape, folded.output_shape) == (
        model.name,
        model.input_shape,
        model.output_shape,
    )
    assert_same_function(model, folded)


def test_a_normalization_that_cannot_be_folded_stays():
    image = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(name="of_the_image")(image)
    shared = layers.Conv2D(4, 1, name="read_twice")(x)
    x = layers.Add()([shared, layers.BatchNormalization(name="of_one_branch")(shared)])
    x = layers.Conv2D(4, 1, activation="relu")(x)
    x = layers.BatchNormalization(name="behind_an_activation")(x)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x))
    folded = fold(model)
    assert normalizations(folded) == ["of_the_image", "of_one_branch", "behind_an_activation"]
    assert_same_function(model, folded)


def test_folding_does_not_change_the_given_model():
    model = small_backbone()
    before = model.get_weights()
    folded = fold(model)
    folded.set_weights([np.zeros_like(weight) for weight in folded.get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_a_copy_for_any_size_accepts_smaller_images():
    model = small_backbone()
    copy = trainable_copy(model, any_size=True)
    assert_same_function(model, copy)
    assert copy(np.zeros((1, 24, 24, 3), np.float32)).shape == (1, 16)


def test_a_copy_for_any_size_is_refused_if_a_layer_depends_on_the_size():
    image = layers.Input((8, 8, 3))
    model = tf_keras.Model(image, layers.Dense(4)(layers.Flatten()(image)))
    with pytest.raises(ValueError):
        trainable_copy(model, any_size=True)
