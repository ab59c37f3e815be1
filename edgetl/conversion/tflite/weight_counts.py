"""Counts zeros and distinct values in the int8 weights of a .tflite file: what makes it compress well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgetl.conversion.tflite.graph import read_single_graph
from edgetl.errors import ConversionError

_COUNTED = ("CONV_2D", "FULLY_CONNECTED")
"""Not depthwise kernels: they are few, and never made sparse."""


@dataclass(frozen=True)
class WeightCount:
    """The share of int8 weights that are zero (0..1), and the largest number of distinct values in one tensor."""

    zeros: float
    values: int


def count_weights(model: bytes) -> WeightCount:
    """Count over the convolutions and dense layers of a .tflite file.

    Raises:
        ConversionError: the file is damaged, or has no int8 weights.
    """
    kernels = list(int8_kernels(model))
    if not kernels:
        raise ConversionError("the model has no int8 weights; give a model that was quantized to int8")
    zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels)
    return WeightCount(float(zeros), max(len(np.unique(kernel)) for kernel in kernels))


def int8_kernels(model: bytes) -> Iterator[np.ndarray]:
    """The weights (outputs, ..., inputs) int8 of each convolution and dense layer, in order of execution."""
    graph = read_single_graph(model)
    for operator in graph.operators:
        weights = graph.input(operator, 1)
        if operator.name in _COUNTED and weights is not None and weights.type == "INT8":
            yield weights.values()
