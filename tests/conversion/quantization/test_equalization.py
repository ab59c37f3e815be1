"""Equalization makes channels similar in range and does not change the function."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from edgetl.conversion.quantization import equalize, rescale, scale_groups
from tests.conversion.bottlenecks import between, build_bottlenecks, embed, plant
from tests.conversion.conftest import NORMALIZATION, SIZE

layers = tf_keras.layers


@pytest.fixture(scope="module")
def model():
    return build_bottlenecks()


def ranges(model, name, frames):
    probe = tf_keras.Model(model.input, model.get_layer(name).output)
    return np.abs(embed(probe, frames)).max(axis=(0, 1, 2))


def test_tensors_joined_by_a_shortcut_share_their_factors(model):
    group = between(model)
    assert set(group.writers) == {"block1_project", "block2_project"}
    assert set(group.readers) == {"block2_expand", "head"}
    assert not group.pinned


def test_the_image_and_the_embedding_are_not_scaled(model):
    pinned = {name for group in scale_groups(model) if group.pinned for name in group.tensors}
    assert pinned == {"image", "head", "head_relu6", "embedding"}


def test_a_planted_imbalance_does_not_change_the_function(model, frames):
    np.testing.assert_allclose(embed(plant(model), frames), embed(model, frames), rtol=1e-3, atol=1e-4)


def test_equalization_does_not_change_the_function(model, frames):
    for before in (model, plant(model)):
        after = equalize(before, frames, NORMALIZATION)
        np.testing.assert_allclose(embed(after, frames), embed(before, frames), rtol=1e-3, atol=1e-4)


def test_equalization_restores_the_range_of_planted_channels(model, frames):
    planted = plant(model)
    before, after = (ranges(one, "block2_add", frames) for one in (planted, equalize(planted, frames, NORMALIZATION)))
    assert before.max() / np.median(before) > 50
    assert after.max() / np.median(after) < 5


def test_equalization_gives_the_same_with_and_without_a_planted_imbalance(model, frames):
    plain, planted = (equalize(one, frames, NORMALIZATION) for one in (model, plant(model)))
    np.testing.assert_allclose(
        ranges(planted, "block2_add", frames) / ranges(planted, "block2_add", frames).max(),
        ranges(plain, "block2_add", frames) / ranges(plain, "block2_add", frames).max(),
        rtol=1e-2,
    )


def test_a_channel_that_reaches_a_ceiling_keeps_its_range(model, frames):
    bright = tf_keras.models.clone_model(model)
    bright.set_weights(model.get_weights())
    bright.get_layer("block1_expand").set_weights([4 * w for w in model.get_layer("block1_expand").get_weights()])
    before = ranges(bright, "block1_expand_relu6", frames)
    after = ranges(equalize(bright, frames, NORMALIZATION), "block1_expand_relu6", frames)
    at_ceiling = before >= 6.0
    assert at_ceiling.any()
    assert not at_ceiling.all()
    np.testing.assert_allclose(after[at_ceiling], 6.0)


def test_equalization_does_not_change_the_given_model(model, frames):
    before = model.get_weights()
    equalize(model, frames, NORMALIZATION)
    for weights, now in zip(before, model.get_weights()):
        np.testing.assert_array_equal(weights, now)


def test_tensors_around_unknown_layers_are_not_scaled():
    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(4, 1, name="before")(image)
    x = layers.Activation("tanh", name="squash")(x)
    x = layers.Conv2D(4, 1, name="after")(x)
    grouped = layers.Conv2D(4, 1, groups=2, name="grouped")(x)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D(name="embedding")(grouped))
    assert all(group.pinned for group in scale_groups(model))


def test_depthwise_kernels_with_several_outputs_per_channel_are_scaled_too(frames):
    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(4, 1, name="stem")(image)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2D(4, 1, name="head")(x)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D(name="embedding")(x))
    free = [group for group in scale_groups(model) if not group.pinned]
    widths = [model.get_layer(group.writers[0]).output_shape[-1] for group in free]
    factors = [np.geomspace(0.1, 10, width) for width in widths]
    rescaled = rescale(model, list(zip(free, factors)))
    assert widths == [4, 8]
    np.testing.assert_allclose(embed(rescaled, frames), embed(model, frames), rtol=1e-3, atol=1e-4)
