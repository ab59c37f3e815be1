"""Describes a built backbone: its stages by resolution, and its multiply-accumulates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgetl.workload import Workload

if TYPE_CHECKING:
    from tf_keras import Model


def stages(model: Model) -> tuple[tuple[str, ...], ...]:
    """The layer names, grouped by resolution, from input to embedding.

    A group starts at the layer that reduces the resolution, so that the last groups are the upper blocks of any
    convolutional network, including a user's own. EfficientNet-Lite0 has groups at 224, 112, 56, 28, 14 and 7 pixels.
    Squeeze-and-excitation and the final pooling belong to the group of the feature map that they work on.
    """
    groups: list[list[str]] = []
    smallest = math.inf
    for layer in model.layers:
        height = _height(layer)
        if not groups or 1 < height < smallest:
            groups.append([])
            smallest = height
        groups[-1].append(layer.name)
    return tuple(map(tuple, groups))


def count_macs(model: Model) -> int:
    """Multiply-accumulates of all convolutions and dense layers, for one image of the model's input size."""
    return sum(layer_macs(layer) for layer in model.layers)


def count_workload(model: Model) -> Workload:
    """The cost of one run of the model on an image of its input size."""
    depthwise = sum(layer_macs(layer) for layer in model.layers if hasattr(layer, "depthwise_kernel"))
    return Workload(count_macs(model), depthwise, model.count_params())


def layer_macs(layer: Any) -> int:
    """Multiply-accumulates of one layer for one image; 0 unless it is a convolution or a dense layer."""
    kernel = getattr(layer, "depthwise_kernel", getattr(layer, "kernel", None))
    if kernel is None:
        return 0
    positions = math.prod(layer.output_shape[1:-1])
    return int(math.prod(kernel.shape)) * int(positions)


def _height(layer: Any) -> int:
    shape = layer.output_shape[0] if isinstance(layer.output_shape, list) else layer.output_shape
    return (shape[1] or 0) if len(shape) == 4 else 0
