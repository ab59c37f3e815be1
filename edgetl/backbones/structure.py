"""Reads the structure of a built backbone; training and pruning ask it where the upper part starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgetl.workload import Workload

if TYPE_CHECKING:
    from tf_keras import Model


def stages(model: Model) -> tuple[tuple[str, ...], ...]:
    """The names of the layers, in groups from input to embedding; in a group the resolution is the same.

    A group starts with the layer that halves the resolution, so the last ones are 'the upper blocks' of any
    convolutional network, a user's own included: EfficientNet-Lite0 has 224, 112, 56, 28, 14 and 7 pixels.
    Squeeze-and-excitation and the pooling at the end belong to the group that they work on.
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
    """Multiply-accumulates of all convolutions and dense layers for one image of the model's input size."""
    return sum(layer_macs(layer) for layer in model.layers)


def count_workload(model: Model) -> Workload:
    """What a run of the model on one image of its input size takes."""
    depthwise = sum(layer_macs(layer) for layer in model.layers if hasattr(layer, "depthwise_kernel"))
    return Workload(count_macs(model), depthwise, model.count_params())


def layer_macs(layer: Any) -> int:
    """Multiply-accumulates of one layer for one image; 0 for all but convolutions and dense layers."""
    kernel = getattr(layer, "depthwise_kernel", getattr(layer, "kernel", None))
    if kernel is None:
        return 0
    positions = math.prod(layer.output_shape[1:-1])
    return int(math.prod(kernel.shape)) * positions


def _height(layer: Any) -> int:
    shape = layer.output_shape[0] if isinstance(layer.output_shape, list) else layer.output_shape
    return (shape[1] or 0) if len(shape) == 4 else 0
