"""Weights become zero or share values; the shape stays, the function nearly so, and the file compresses better."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.conversion import convert
from edgetl.conversion.compression.sparsity import SparsityOptions, cluster, sparsify, zero_share
from edgetl.conversion.tflite.weight_counts import count_weights, int8_kernels
from edgetl.errors import OptionError
from edgetl.evaluation import compressed_size
from tests.backbones.pattern import random_weights
from tests.conversion.conftest import NORMALIZATION, PREPROCESS, SIZE

STEPS = 30


@pytest.fixture(scope="module")
def wide():
    """Layers wide enough for sparsity to mean something."""
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.ReLU(6.0)(layers.Conv2D(16, 3, 2, padding="same", name="stem")(image))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = layers.ReLU(6.0)(layers.Conv2D(128, 1, name="expand")(x))
    x = layers.Conv2D(64, 1, name="project")(x)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x), name="wide")
    model.set_weights(with_a_dead_channel(model))
    return model


def with_a_dead_channel(model):
    """Random weights, but those of one channel so small that int8 has only zeros of them."""
    weights = random_weights(model)
    largest = max(weights, key=np.size)
    largest[..., 0] = 1e-12
    return weights


@pytest.fixture(scope="module")
def train(wide):
    """Towards the embeddings of the whole model, on noise."""
    images = np.random.default_rng(0).uniform(-1, 1, (32, SIZE, SIZE, 3)).astype(np.float32)
    wanted = wide(images).numpy()

    def fit(model, callbacks):
        model.compile("adam", "mse")
        model.fit(images, wanted, batch_size=16, epochs=STEPS // 2, callbacks=callbacks, verbose=0)

    return fit


@pytest.fixture(scope="module")
def changed(wide, train):
    """What was made of the whole model, which is there too."""
    sparse = sparsify(wide, 0.8, STEPS, train)
    return {
        "whole": wide,
        "sparse": sparse,
        "2:4": sparsify(wide, "2:4", STEPS, train),
        "clustered": cluster(wide, 8, train),
        "both": cluster(sparse, 8, train, keep_zeros=True),
    }


@pytest.fixture(scope="module")
def compiled(changed, frames):
    """Their int8 files."""
    return {
        name: convert(model, NORMALIZATION, PREPROCESS, calibration=frames).model for name, model in changed.items()
    }


def kernels(model):
    return {layer.name: layer.kernel.numpy() for layer in model.layers if type(layer).__name__ == "Conv2D"}


def test_exactly_the_given_share_of_the_weights_is_zero(changed):
    assert zero_share(changed["sparse"]) == pytest.approx(0.8, abs=0.02)


def test_two_of_four_neighbours_are_zero(changed):
    kernel = kernels(changed["2:4"])["project"]
    quads = kernel.reshape(-1, 4, kernel.shape[-1])
    assert ((quads != 0).sum(axis=1) <= 2).all()


def test_relative_to_their_channel_the_weights_of_a_layer_have_few_values(changed):
    for kernel in kernels(changed["clustered"]).values():
        relative = kernel / np.abs(kernel).max(axis=(0, 1, 2))
        assert 2 < len(np.unique(relative.round(5))) <= 8
        np.testing.assert_allclose(127 * relative, np.rint(127 * relative), atol=1e-3)


def test_depthwise_kernels_stay_dense(changed):
    for model in changed.values():
        assert model.get_layer("depthwise").get_weights()[0].all()


def test_the_given_model_is_not_changed(wide, changed):
    assert all(np.array_equal(a, b) for a, b in zip(with_a_dead_channel(wide), wide.get_weights()))


@pytest.mark.slow
def test_the_int8_file_has_the_requested_zeros_and_values(compiled):
    counts = {name: count_weights(model) for name, model in compiled.items()}
    assert counts["whole"].values > 100
    assert counts["sparse"].zeros >= 0.78
    assert counts["2:4"].zeros >= 0.48
    assert 2 < counts["clustered"].values <= 8
    assert counts["both"].zeros >= 0.78
    assert 2 < counts["both"].values <= 8


@pytest.mark.slow
def test_in_the_int8_file_two_of_four_neighbouring_inputs_are_zero(compiled):
    wide_enough = [kernel for kernel in int8_kernels(compiled["2:4"]) if kernel.shape[-1] % 4 == 0]
    assert wide_enough
    for kernel in wide_enough:
        assert ((kernel.reshape(-1, 4) != 0).sum(axis=1) <= 2).all()


@pytest.mark.slow
def test_the_int8_file_keeps_its_size_and_compresses_better(compiled):
    assert len({len(model) for model in compiled.values()}) == 1
    sizes = {name: compressed_size(model) for name, model in compiled.items()}
    assert max(sizes["sparse"], sizes["clustered"]) < 0.85 * sizes["whole"]
    assert sizes["both"] < min(sizes["sparse"], sizes["clustered"])


@pytest.mark.parametrize("wrong", [{"sparsity": 0.0}, {"sparsity": "3:4"}, {"clusters": 1}])
def test_an_option_out_of_range_is_named(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(OptionError, match=f"{name} must be .* received {value}"):
        SparsityOptions(**wrong)


def test_sparsity_or_clusters_must_be_given():
    with pytest.raises(OptionError, match="sparsity, clusters, or both"):
        SparsityOptions()
