"""A tiny network of inverted bottlenecks, and a fault to plant in it: channels of very unequal range."""

from __future__ import annotations

import numpy as np
import tf_keras

from edgetl.conversion.quantization import ScaleGroup, rescale, scale_groups
from tests.conversion.conftest import NORMALIZATION, SIZE

layers = tf_keras.layers


def build_bottlenecks(seed: int = 3, unbounded: bool = False) -> tf_keras.Model:
    """Stem, two bottlenecks with a shortcut around the second, head and mean; BatchNorm is folded already.

    With `unbounded`, an embedding may be as large as it likes.
    """
    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", name="stem")(image)
    x = layers.ReLU(6.0, name="stem_relu6")(x)
    x = block1 = _bottleneck(x, "block1")
    x = layers.Add(name="block2_add")([block1, _bottleneck(x, "block2")])
    x = layers.Conv2D(24, 1, name="head")(x)
    x = layers.ReLU(None if unbounded else 6.0, name="head_relu6")(x)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D(name="embedding")(x), name="bottlenecks")
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([_drawn(rng, weights.shape) for weights in layer.get_weights()])
    return model


def plant(model: tf_keras.Model, factor: float = 100.0) -> tf_keras.Model:
    """Every fourth channel between the bottlenecks `factor` times as large; the same function."""
    group = between(model)
    factors = np.ones(8)
    factors[::4] = factor
    return rescale(model, [(group, factors)])


def spoil(model: tf_keras.Model, factor: float = 200.0) -> tf_keras.Model:
    """The first number of the embedding `factor` times as large: no other layer can make up for that."""
    kernel, bias = model.get_layer("head").get_weights()
    kernel[..., 0] *= factor
    bias[0] *= factor
    model.get_layer("head").set_weights([kernel, bias])
    return model


def between(model: tf_keras.Model) -> ScaleGroup:
    """The channels that the shortcut joins."""
    return next(group for group in scale_groups(model) if "block2_add" in group.tensors)


def embed(model: tf_keras.Model, frames: list[np.ndarray]) -> np.ndarray:
    offset, scale = NORMALIZATION
    return model((np.stack(frames).astype(np.float32) - offset) / scale, training=False).numpy()


def _bottleneck(x, name: str):
    x = layers.Conv2D(16, 1, name=f"{name}_expand")(x)
    x = layers.ReLU(6.0, name=f"{name}_expand_relu6")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_depthwise")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu6")(x)
    return layers.Conv2D(8, 1, name=f"{name}_project")(x)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    fan_in = np.prod(shape[:3] if shape[-1] > 1 else shape[:2]) if len(shape) == 4 else 100
    return rng.normal(0, np.sqrt(2 / fan_in), shape)
