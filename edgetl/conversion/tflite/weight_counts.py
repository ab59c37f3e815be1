"""Counts what of a compiled model's weights compresses; `pipeline` tells by it what sparsity and clusters came to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetl.conversion.tflite import schema
from edgetl.conversion.tflite.operators import operator_of
from edgetl.errors import ConversionError

_COUNTED = ("CONV_2D", "FULLY_CONNECTED")
"""Depthwise kernels are few, and never made sparse."""


@dataclass(frozen=True)
class WeightCount:
    """Of the int8 weights of convolutions and dense layers: the share of zeros, and the most values in one tensor."""

    zeros: float
    values: int


def count_weights(model: bytes) -> WeightCount:
    """Zeros and values in a .tflite file; ConversionError where none of its weights are int8."""
    kernels = list(int8_kernels(model))
    if not kernels:
        raise ConversionError("the model has no int8 weights to count; give one that was quantized to int8")
    zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels)
    return WeightCount(float(zeros), max(len(np.unique(kernel)) for kernel in kernels))


def int8_kernels(model: bytes) -> Iterator[np.ndarray]:
    """The weights (outputs, ..., inputs) int8 of each convolution and dense layer, in order of execution."""
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    for step in graph.operators:
        if operator_of(parsed.operatorCodes[step.opcodeIndex]).name in _COUNTED:
            tensor = graph.tensors[step.inputs[1]]
            if schema.tensor_type_name(tensor) == "int8":
                yield _values(parsed, tensor)


def _values(parsed: Any, tensor: Any) -> np.ndarray:
    data = bytes(bytearray(parsed.buffers[tensor.buffer].data))
    return np.frombuffer(data, np.int8).reshape(schema.tensor_shape(tensor))
