"""The layers that every family is made of, and how they are named; only the families call it.

Layers are named after their place: `stem`, `block3b_expand`, `block3b_depthwise`, `block3b_project`, `head`
and `embedding`. The digit counts the stages of the paper's table, the letter the repetition within one.
Behind such a name, `_bn` is its normalisation, `_relu6`, `_relu` or `_hard_swish` its activation;
`block3b_add` closes a shortcut. MobileNet V1 has `block3_depthwise` and `block3_pointwise`. Names never
depend on what else was built in the process, so the same model converts to the same bytes.

Padding is SAME throughout. Where Keras Applications pads by a layer of its own and then convolves VALID,
that is the same numbers with one operator less.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from edgetl.backbones.spec import Spec
from edgetl.backbones.tf_keras_import import tf_keras

if TYPE_CHECKING:
    from tf_keras import Model

_BN_EPSILON = 1e-3


class Bottleneck(NamedTuple):
    """An inverted bottleneck (Sandler et al. 2018, arXiv 1801.04381): expand, filter in space, project.

    `filters` is what it gives; `expansion` widens what it receives; `squeeze` adds squeeze-and-excitation.
    """

    kernel: int
    stride: int
    expansion: float
    filters: int
    squeeze: bool = False
    activation: str = "relu6"


def image_input(size: int) -> Any:
    """The symbolic (None, size, size, 3) image."""
    return tf_keras().layers.Input((size, size, 3), name="image")


def embedding(spec: Spec, image: Any, x: Any) -> Model:
    """Closes the model: the average over all positions is the embedding."""
    x = tf_keras().layers.GlobalAveragePooling2D(name="embedding")(x)
    return tf_keras().Model(image, x, name=spec.name)


def convolution(x: Any, name: str, filters: int, kernel: int = 1, stride: int = 1, activation: str = "") -> Any:
    """A convolution with normalisation and, where named, an activation."""
    layer = tf_keras().layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)
    return _activate(_normalize(layer(x), name), name, activation)


def depthwise(x: Any, name: str, kernel: int, stride: int, activation: str) -> Any:
    """A depthwise convolution with normalisation and an activation."""
    layer = tf_keras().layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=name)
    return _activate(_normalize(layer(x), name), name, activation)


def bottlenecks(x: Any, stages: Iterable[Iterable[Bottleneck]]) -> Any:
    """The stages one after the other, as block1a, block1b, ..., block2a, ..."""
    for number, stage in enumerate(stages, 1):
        for letter, block in zip("abcdefghij", stage):
            x = _bottleneck(x, f"block{number}{letter}", block)
    return x


def round_channels(channels: float) -> int:
    """To the nearest multiple of 8, but never down by more than a tenth, as all these families do."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _bottleneck(x: Any, name: str, block: Bottleneck) -> Any:
    inputs, channels = x, x.shape[-1]
    if block.expansion != 1:
        expanded = round_channels(channels * block.expansion)
        x = convolution(x, f"{name}_expand", expanded, activation=block.activation)
    x = depthwise(x, f"{name}_depthwise", block.kernel, block.stride, block.activation)
    if block.squeeze:
        x = _squeeze_and_excite(x, f"{name}_squeeze")
    x = convolution(x, f"{name}_project", block.filters)
    if block.stride == 1 and channels == block.filters:
        x = tf_keras().layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _squeeze_and_excite(x: Any, name: str) -> Any:
    """Weighs the channels by their averages (arXiv 1905.02244, section 5.3)."""
    layers, channels = tf_keras().layers, x.shape[-1]
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    weight = layers.Conv2D(round_channels(channels / 4), 1, activation="relu", name=f"{name}_reduce")(weight)
    weight = layers.Conv2D(channels, 1, name=f"{name}_restore")(weight)
    weight = _activate(weight, name, "hard_sigmoid")
    return layers.Multiply(name=f"{name}_multiply")([x, weight])


def _normalize(x: Any, name: str) -> Any:
    return tf_keras().layers.BatchNormalization(epsilon=_BN_EPSILON, name=f"{name}_bn")(x)


def _activate(x: Any, name: str, activation: str) -> Any:
    if not activation:
        return x
    layers = tf_keras().layers
    if activation in _CEILINGS:
        return layers.ReLU(_CEILINGS[activation], name=f"{name}_{activation}")(x)
    function = tf_keras().utils.register_keras_serializable("edgetl")(_HARD[activation])
    return layers.Activation(function, name=f"{name}_{activation}")(x)


def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6, element by element (Howard et al. 2019, arXiv 1905.02244, section 5.2)."""
    return tf_keras().activations.relu(x + 3.0, max_value=6.0) * (1.0 / 6.0)


def hard_swish(x: Any) -> Any:
    """x times its hard sigmoid (the same section); one operator in TFLite."""
    return x * hard_sigmoid(x)


_CEILINGS = {"relu": None, "relu6": 6.0}
_HARD = {"hard_sigmoid": hard_sigmoid, "hard_swish": hard_swish}
