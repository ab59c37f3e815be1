"""Describes a .tflite file: tensors, operators, size, multiply-accumulates, labels and metadata."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from edgetl.conversion.tflite import metadata
from edgetl.conversion.tflite.graph import Graph, Tensor, read_single_graph
from edgetl.conversion.tflite.operators import EDGETPU_OPERATOR, operator_of


def describe(model: bytes) -> dict[str, Any]:
    """A .tflite file as a JSON object.

    Keys:
        bytes: size of the file.
        inputs, outputs: each tensor's "name", "shape", "dtype", and "scale" and "zero_point", both None if the tensor
            is not quantized as a whole.
        operators: each operator's "name", "version" and "count".
        parameter_bytes: size of the constants.
        macs, depthwise_macs, parameters: multiply-accumulates of one run, those of depthwise convolutions among them,
            and the weights that take part in them. None if the Edge TPU compiler has packed the layers.
        edgetpu: whether the file is compiled for the Edge TPU.
        labels, metadata: None if the file has none.

    Raises:
        ConversionError: the bytes are not an intact .tflite file with one subgraph.
    """
    graph = read_single_graph(model)
    counts = Counter(operator_of(operator) for operator in graph.operators)
    edgetpu = any(operator.name == EDGETPU_OPERATOR for operator in counts)
    return {
        "bytes": len(model),
        "inputs": [_describe_tensor(graph.tensors[index]) for index in graph.inputs],
        "outputs": [_describe_tensor(graph.tensors[index]) for index in graph.outputs],
        "operators": [
            {"name": operator.name, "version": operator.version, "count": count}
            for operator, count in sorted(counts.items())
        ],
        "parameter_bytes": _parameter_bytes(graph),
        **(dict.fromkeys(("macs", "depthwise_macs", "parameters")) if edgetpu else _count_work(graph)),
        "edgetpu": edgetpu,
        "labels": list(metadata.read_labels(model)) or None,
        "metadata": _describe_metadata(graph),
    }


_MULTIPLYING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def _describe_tensor(tensor: Tensor) -> dict[str, Any]:
    scale, zero_point = tensor.scale or (None, None)
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": scale,
        "zero_point": zero_point,
    }


def _parameter_bytes(graph: Graph) -> int:
    """Size of the constants in bytes; one that several tensors share counts once."""
    indices = {tensor.buffer for tensor in graph.tensors}
    return sum(len(content) for index, content in enumerate(graph.buffers) if index in indices and content is not None)


def _count_work(graph: Graph) -> dict[str, int]:
    """Multiply-accumulates and weights of the layers that multiply.

    Each output value of a convolution or dense layer costs one multiply-accumulate for each weight of a filter.
    """
    macs, depthwise_macs, parameters = 0, 0, 0
    for operator in graph.operators:
        weights, output = graph.input(operator, 1), graph.output(operator)
        if operator.name not in _MULTIPLYING or weights is None or output is None:
            continue
        depthwise = operator.name == "DEPTHWISE_CONV_2D"
        layer_macs = math.prod(output.shape) * math.prod(weights.shape[1:3] if depthwise else weights.shape[1:])
        macs, depthwise_macs = macs + layer_macs, depthwise_macs + layer_macs * depthwise
        parameters += math.prod(weights.shape)
    return {"macs": macs, "depthwise_macs": depthwise_macs, "parameters": parameters}


def _describe_metadata(graph: Graph) -> dict[str, Any] | None:
    content = graph.metadata.get(metadata.ENTRY_NAME)
    if not content:
        return None
    found = metadata.decode(content)
    return {
        "name": found.name,
        "description": found.description,
        "version": found.version,
        "licence": found.licence,
        "normalization": list(found.normalization),
    }
