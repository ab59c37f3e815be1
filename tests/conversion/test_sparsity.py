"""Weights become zero or share values, the shape and nearly the function stay, and the file compresses better."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.conversion import convert
from edgetl.conversion.sparsity import SparsityOptions, cluster, sparsify, zero_share
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
    model.set_weights(random_weights(model))
    return model


@pytest.fixture(scope="module")
def train(wide):
    """Towards the embeddings of the whole model, on noise."""
    images = np.random.default_rng(0).uniform(-1, 1, (32, SIZE, SIZE, 3)).astype(np.float32)
    wanted = wide(images).numpy()

    def fit(model, callbacks):
        model.compile("adam", "mse")
        model.fit(images, wanted, batch_size=16, epochs=STEPS // 2, callbacks=callbacks, verbose=0)

    return fit


def kernels(model):
    return {layer.name: layer.kernel.numpy() for layer in model.layers if type(layer).__name__ == "Conv2D"}


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_that_share_of_the_weights_is_exactly_zero(wide, train, share):
    assert zero_share(sparsify(wide, share, STEPS, train)) == pytest.approx(share, abs=0.02)


def test_of_four_neighbours_two_are_zero(wide, train):
    kernel = kernels(sparsify(wide, "2:4", STEPS, train))["project"]
    quads = kernel.reshape(-1, 4, kernel.shape[-1])
    assert ((quads != 0).sum(axis=1) <= 2).all()


def test_the_weights_of_a_channel_take_so_many_values(wide, train):
    clustered = cluster(wide, 8, train)
    for kernel in kernels(clustered).values():
        assert max(len(np.unique(kernel[..., channel])) for channel in range(kernel.shape[-1])) <= 8


def test_depthwise_kernels_stay_dense(wide, train):
    sparse = sparsify(wide, 0.8, STEPS, train)
    assert (sparse.get_layer("depthwise").get_weights()[0] != 0).all()


def test_the_given_model_stays_as_it_is(wide, train):
    before = wide.get_weights()
    sparsify(wide, 0.5, STEPS, train)
    cluster(wide, 8, train)
    assert all(np.array_equal(a, b) for a, b in zip(before, wide.get_weights()))


@pytest.mark.slow
def test_the_int8_file_keeps_its_size_and_compresses_better(wide, train, frames):
    whole, sparse, clustered = (
        convert(model, NORMALIZATION, PREPROCESS, calibration=frames).model
        for model in (wide, sparsify(wide, 0.8, STEPS, train), cluster(wide, 8, train))
    )
    assert len(sparse) == len(clustered) == len(whole)
    assert compressed_size(sparse) < 0.85 * compressed_size(whole)
    assert compressed_size(clustered) < 0.85 * compressed_size(whole)


@pytest.mark.parametrize("wrong", [{"sparsity": 0.0}, {"sparsity": "3:4"}, {"clusters": 1}])
def test_an_option_out_of_range_is_named(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(OptionError, match=f"{name} is {value}; choose"):
        SparsityOptions(**wrong)


@pytest.mark.parametrize("both", [{}, {"sparsity": 0.5, "clusters": 16}])
def test_sparsity_and_clusters_exclude_each_other(both):
    with pytest.raises(OptionError, match="either sparsity or clusters"):
        SparsityOptions(**both)
