"""Building blocks of the backbone families, with consistent layer names.

Layers are named by position: `stem`, `block3b_expand`, `block3b_depthwise`, `block3b_project`, `head` and
`embedding`. The digit is the stage in the paper's table, the letter the repetition within the stage. A suffix names
what follows a layer: `_bn` for its normalisation, `_relu6`, `_relu` or `_hard_swish` for its activation, and
`block3b_add` for the end of a shortcut. MobileNet V1 has `block3_depthwise` and `block3_pointwise`. Names do not
depend on what else was built in the process, so the same model always converts to the same bytes.

Padding is always SAME. Keras Applications pads with a separate layer and then convolves with VALID padding, which
gives the same numbers with one operator more.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from edgetl.backbones.spec import Spec
from edgetl.backbones.tf_keras_import import load_keras_weights, tf_keras

if TYPE_CHECKING:
    from tf_keras import Model

_BN_EPSILON = 1e-3


class Bottleneck(NamedTuple):
    """An inverted bottleneck: expand, depthwise convolution, project (Sandler et al. 2018, arXiv 1801.04381).

    `filters` is the number of output channels, `expansion` the factor by which the input channels are expanded;
    `squeeze` adds squeeze-and-excitation.
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


def backbone(spec: Spec, image: Any, x: Any, weights: Optional[Path] = None) -> Model:
    """The model from `image` to the embedding, the average of the feature map `x` over all positions.

    `weights` is a file that Keras wrote; None leaves the weights random. Raises WeightsError if it does not fit.
    """
    x = tf_keras().layers.GlobalAveragePooling2D(name="embedding")(x)
    model = tf_keras().Model(image, x, name=spec.name)
    if weights is not None:
        load_keras_weights(model, weights)
    return model


def convolution(x: Any, name: str, filters: int, kernel: int = 1, stride: int = 1, activation: str = "") -> Any:
    """A convolution with batch normalisation and, if named, an activation."""
    layer = tf_keras().layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)
    return _activate(_normalize(layer(x), name), name, activation)


def depthwise(x: Any, name: str, kernel: int, stride: int, activation: str) -> Any:
    """A depthwise convolution with batch normalisation and an activation."""
    layer = tf_keras().layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=name)
    return _activate(_normalize(layer(x), name), name, activation)


def bottlenecks(x: Any, stages: Iterable[Iterable[Bottleneck]]) -> Any:
    """All bottlenecks, stage by stage, named block1a, block1b, ..., block2a, ..."""
    for number, stage in enumerate(stages, 1):
        for letter, block in zip("abcdefghij", stage):
            x = _bottleneck(x, f"block{number}{letter}", block)
    return x


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, but never less than 90 % of `channels`, as all these families round."""
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
    """Weights the channels by a function of their averages (arXiv 1905.02244, section 5.3)."""
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
    """relu6(x + 3) / 6, elementwise (Howard et al. 2019, arXiv 1905.02244, section 5.2)."""
    return tf_keras().activations.relu(x + 3.0, max_value=6.0) * (1.0 / 6.0)


def hard_swish(x: Any) -> Any:
    """x * hard_sigmoid(x), elementwise (section 5.2 of the same paper); one operator in TFLite."""
    return x * hard_sigmoid(x)


_CEILINGS = {"relu": None, "relu6": 6.0}
_HARD = {"hard_sigmoid": hard_sigmoid, "hard_swish": hard_swish}
