"""Pruning removes the channels that the photos need least; removing dead channels does not change the function."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.backbones import build, count_macs, get_backbone
from edgetl.conversion import convert
from edgetl.conversion.compression.channel_groups import find_groups
from edgetl.conversion.compression.structured_pruning import (
    PruningOptions,
    choose_channels,
    keep_channels,
    measure_importance,
    prune,
)
from edgetl.errors import ConversionError, OptionError
from tests.backbones.pattern import random_weights
from tests.conversion.conftest import NORMALIZATION, PREPROCESS

FAMILIES = ("mobilenet-v1-0.25", "mobilenet-v2-0.35", "mobilenet-v3-small", "mobilenet-v3-small-minimalistic")


def backbone(name, size=32):
    model = build(get_backbone(name), size, pretrained=False)
    model.set_weights(random_weights(model))
    return model


def small_backbone():
    """Expanded, filtered in space and projected, around it a shortcut, as in every inverted bottleneck."""
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((32, 32, 3), name="image")
    stem = layers.ReLU(6.0)(layers.Conv2D(8, 3, 2, padding="same", name="stem")(image))
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="expand_bn")(layers.Conv2D(48, 1, name="expand")(stem)))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="depthwise_bn")(x))
    x = layers.Conv2D(8, 1, use_bias=False, name="project")(x)
    x = layers.Add()([stem, x])
    x = layers.ReLU(6.0)(layers.Conv2D(16, 1, name="head")(x))
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x), name="small")
    model.set_weights(random_weights(model))
    return model


def images_of(model, count=6):
    size = model.input_shape[1:3]
    return np.random.default_rng(1).uniform(-1, 1, (count, *size, 3)).astype(np.float32)


def batches_of(model):
    images = images_of(model)
    return [(images[:4], np.zeros(4, np.int32)), (images[4:], np.zeros(2, np.int32))]


def mean_square(embeddings, labels):
    import tensorflow as tf

    return tf.reduce_mean(tf.square(embeddings), axis=1)


def normalized_groups(model):
    """The groups that pass a BatchNorm, and the name of the last one."""
    named = [(group, [name for name in group.members if name.endswith("_bn")]) for group in find_groups(model)]
    return [(group, names[-1]) for group, names in named if names]


def silence(model, shift=0.0):
    """Every fourth channel that a consumer reads becomes constant: zero where `shift` is."""
    for _, name in normalized_groups(model):
        gamma, beta, mean, variance = model.get_layer(name).get_weights()
        gamma[::4], beta[::4] = 0.0, shift
        model.get_layer(name).set_weights([gamma, beta, mean, variance])


def without_every_fourth(model):
    groups = [group for group, _ in normalized_groups(model)]
    importance = measure_importance(model, groups, batches_of(model), mean_square)
    kept = {group.name: np.setdiff1d(np.arange(group.width), np.arange(0, group.width, 4)) for group in groups}
    return keep_channels(model, groups, kept, importance.means)


def relative_difference(one, other):
    images = images_of(one)
    expected, received = one(images, training=False).numpy(), other(images, training=False).numpy()
    return np.abs(expected - received).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_removing_channels_that_are_zero_changes_nothing(name):
    model = backbone(name)
    silence(model)
    smaller = without_every_fourth(model)
    assert count_macs(smaller) < 0.9 * count_macs(model)
    assert relative_difference(model, smaller) < 1e-5


def test_removing_channels_that_are_constant_changes_nothing():
    model = backbone("mobilenet-v2-0.35")
    silence(model, shift=1.5)
    assert relative_difference(model, without_every_fourth(model)) < 1e-5


@pytest.mark.slow
def test_the_dead_channels_of_efficientnet_lite0_are_removed_first_without_a_loss():
    model = build(get_backbone("efficientnet-lite0"), 64)
    groups = find_groups(model)
    importance = measure_importance(model, groups, batches_of(model), mean_square)
    dead = {
        group.name: np.flatnonzero(importance.scores[group.name] <= 1e-12 * importance.scores[group.name].max())
        for group in groups
    }
    assert sum(map(len, dead.values())) > 50
    kept = {group.name: np.setdiff1d(np.arange(group.width), dead[group.name]) for group in groups}
    smaller = keep_channels(model, groups, kept, importance.means)
    assert relative_difference(model, smaller) < 1e-4


@pytest.mark.parametrize("name", [*FAMILIES, "efficientnet-lite0"])
def test_channels_of_a_shortcut_or_the_output_are_kept(name):
    model = backbone(name)
    names = {group.name for group in find_groups(model)}
    assert len(names) >= 8
    added = [layer.name for layer in model.layers if type(layer).__name__ == "Add"]
    assert not names & {"head", *(name.replace("_add", "_project") for name in added)}


def test_expansion_depthwise_convolution_and_projection_shrink_together():
    (group,) = (group for group in find_groups(small_backbone()) if group.name == "expand")
    assert group.producers == ("expand",)
    assert set(group.members) == {"expand_bn", "depthwise", "depthwise_bn"}
    assert group.consumers == ("project",)


@pytest.mark.parametrize(("share", "multiple"), [(0.3, 16), (0.5, 8)])
def test_the_budget_is_met_with_widths_that_are_multiples(share, multiple):
    model = backbone("mobilenet-v2-0.35")
    budget = int(count_macs(model) * (1 - share))
    smaller = prune(model, budget, batches_of(model), mean_square, multiple)
    assert 0.8 * budget < count_macs(smaller) <= budget
    before = {group.name: group.width for group in find_groups(model)}
    after = {group.name: group.width for group in find_groups(smaller)}
    assert before.keys() == after.keys()
    assert all(width == before[name] or width % multiple == 0 for name, width in after.items())
    assert all(width >= 0.1 * before[name] for name, width in after.items())


def test_the_result_has_the_interface_of_the_backbone():
    model = small_backbone()
    smaller = prune(model, int(0.7 * count_macs(model)), batches_of(model), mean_square)
    assert (smaller.name, smaller.input_shape, smaller.output_shape) == (
        model.name,
        model.input_shape,
        model.output_shape,
    )
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]


def test_the_given_model_is_not_changed():
    model = small_backbone()
    before = model.get_weights()
    prune(model, int(0.7 * count_macs(model)), batches_of(model), mean_square)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_the_same_photos_give_the_same_weights():
    model = small_backbone()
    once, again = (prune(model, int(0.7 * count_macs(model)), batches_of(model), mean_square) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once.get_weights(), again.get_weights()))


def test_channels_that_nothing_uses_are_removed_first():
    model = small_backbone()
    kernel = model.get_layer("project").get_weights()[0]
    ignored = np.arange(1, 48, 2)
    kernel[:, :, ignored] = 0
    model.get_layer("project").set_weights([kernel])
    groups = find_groups(model)
    importance = measure_importance(model, groups, batches_of(model), mean_square)
    assert not importance.scores["expand"][ignored].any()
    kept = choose_channels(model, groups, importance.scores, int(count_macs(model) * 0.8))["expand"]
    assert len(kept) < 48
    assert set(np.flatnonzero(importance.scores["expand"])) <= set(kept)


def test_importance_predicts_the_change_of_the_loss():
    """To first order: for channels whose weight in the consumer is small, the squared change of the loss."""
    model = small_backbone()
    kernel = model.get_layer("project").get_weights()[0]
    kernel[:, :, 3] *= 1e-2
    model.get_layer("project").set_weights([kernel])
    groups = [group for group in find_groups(model) if group.name == "expand"]
    importance = measure_importance(model, groups, batches_of(model), mean_square)
    smaller = keep_channels(model, groups, {"expand": np.delete(np.arange(48), 3)}, importance.means)
    images = images_of(model)
    losses = [mean_square(one(images, training=False), None).numpy() for one in (model, smaller)]
    measured = np.mean(np.square(losses[0].astype(np.float64) - losses[1]))
    assert importance.scores["expand"][3] == pytest.approx(measured, rel=0.1)


def test_a_consumer_with_a_large_kernel_shrinks_too():
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="first")(image)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(16, 3, activation="relu", name="second")(x)
    x = layers.Dense(32, activation="relu", name="hidden")(layers.GlobalAveragePooling2D()(x))
    model = tf_keras.Model(image, layers.Dense(8)(x), name="of-a-user")
    assert [group.name for group in find_groups(model)] == ["first", "second", "hidden"]
    smaller = prune(model, count_macs(model) // 2, batches_of(model), mean_square)
    assert smaller(images_of(model)).shape == (6, 8)


def test_a_model_without_removable_channels_is_refused():
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same")(image)
    x = layers.Add()([x, layers.Conv2D(16, 3, padding="same")(image)])
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x), name="tied")
    with pytest.raises(ConversionError, match=r"tied has no channels that can be removed.*omit --prune"):
        prune(model, 1, batches_of(model), mean_square)


def test_channels_that_reach_a_softmax_are_kept():
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, activation="softmax")(image)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(x)))
    assert find_groups(model) == ()


def test_a_budget_that_cannot_be_met_is_refused_with_the_least_possible():
    model = small_backbone()
    with pytest.raises(ConversionError, match=r"cannot be pruned below [\d,]+ multiply-accumulates, more than the 10"):
        prune(model, 10, batches_of(model), mean_square)


def test_rounds_remove_channels_in_equal_ratios():
    assert PruningOptions(0.75, rounds=2).budgets(1000) == (500, 250)
    assert PruningOptions(0.5, rounds=1).budgets(1000) == (500,)


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"share": 0.5, "rounds": 0}])
def test_an_option_out_of_range_is_named(wrong):
    with pytest.raises(OptionError, match="must be"):
        PruningOptions(**wrong)


@pytest.mark.slow
def test_a_pruned_backbone_compiles(frames):
    model = small_backbone()
    smaller = prune(model, int(0.7 * count_macs(model)), batches_of(model), mean_square)
    whole, pruned = (convert(one, NORMALIZATION, PREPROCESS, calibration=frames) for one in (model, smaller))
    assert len(pruned.model) < len(whole.model)
    assert pruned.embedding["size"] == whole.embedding["size"]
