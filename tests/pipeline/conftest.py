"""Small backbones that the tests of this folder share."""

from __future__ import annotations

import pytest

from edgetl.pipeline import BuildOptions


@pytest.fixture(scope="session")
def own_backbone(tmp_path_factory) -> BuildOptions:
    """Options for a Keras file of the user: two inverted bottlenecks with random weights, trained in seconds."""
    import tf_keras

    from tests.backbones.pattern import random_weights

    layers = tf_keras.layers
    image = layers.Input((32, 32, 3))
    x = layers.ReLU(6.0)(layers.Conv2D(16, 3, 2, padding="same")(image))
    for _ in range(2):
        expanded = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(96, 1, use_bias=False)(x)))
        filtered = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(expanded))
        x = layers.Add()([x, layers.Conv2D(16, 1)(filtered)])
    x = layers.ReLU(6.0)(layers.Conv2D(32, 1)(x))
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x))
    model.set_weights(random_weights(model))
    path = tmp_path_factory.mktemp("own") / "own.keras"
    model.save(path)
    return BuildOptions(backbone=str(path), normalization=(127.5, 127.5), fine_tune="off", float_reference=False)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory) -> tuple[str, ...]:
    """The Keras files of two small networks with random weights, one wider than the other, trained in seconds."""
    import tf_keras

    from tests.backbones.pattern import random_weights

    layers, folder = tf_keras.layers, tmp_path_factory.mktemp("backbones")
    for name, width in (("narrow", 8), ("wide", 24)):
        image = layers.Input((48, 48, 3))
        x = layers.Rescaling(1 / 127.5, offset=-1)(image)
        x = layers.ReLU(6.0)(layers.Conv2D(width, 3, 2, padding="same")(x))
        expanded = layers.ReLU(6.0)(layers.Conv2D(6 * width, 1)(x))
        filtered = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, 2, padding="same")(expanded))
        x = layers.ReLU(6.0)(layers.Conv2D(64, 1)(filtered))
        model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x))
        model.set_weights(random_weights(model))
        model.save(folder / f"{name}.keras")
    return tuple(str(folder / f"{name}.keras") for name in ("narrow", "wide"))
