"""Reads out what a .tflite file is: tensors, operators, size, work and labels; `edgetl show` and reports print it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from edgetl.conversion.tflite import metadata, schema
from edgetl.conversion.tflite.operators import EDGETPU_OPERATOR, Operator, operator_of


def describe(model: bytes) -> dict[str, Any]:
    """A .tflite file as JSON takes it; ConversionError where it is not one with a single graph.

    Keys: "bytes"; "inputs", "outputs" (each "name", "shape", "dtype", "scale" and "zero_point" or None);
    "operators" (each "name", "version", "count"); "parameter_bytes" of the constant tensors; "macs", the
    multiply-accumulates of one run, "depthwise_macs" among them, and "parameters", the weights that take part in them
    (all three None where the Edge TPU compiler has hidden the layers); "edgetpu"; "labels"
    and "metadata", None without them.
    """
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    operators = [operator_of(code) for code in parsed.operatorCodes]
    used = Counter(operators[step.opcodeIndex] for step in graph.operators)
    edgetpu = any(operator.name == EDGETPU_OPERATOR for operator in used)
    return {
        "bytes": len(model),
        "inputs": [_tensor(graph.tensors[index]) for index in graph.inputs],
        "outputs": [_tensor(graph.tensors[index]) for index in graph.outputs],
        "operators": [
            {"name": operator.name, "version": operator.version, "count": count}
            for operator, count in sorted(used.items())
        ],
        "parameter_bytes": _parameter_bytes(parsed),
        **(dict.fromkeys(("macs", "depthwise_macs", "parameters")) if edgetpu else _work(graph, operators)),
        "edgetpu": edgetpu,
        "labels": list(metadata.read_labels(model)) or None,
        "metadata": _metadata(parsed),
    }


_MULTIPLYING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def _tensor(tensor: Any) -> dict[str, Any]:
    scale, zero_point = schema.tensor_scale(tensor) or (None, None)
    return {
        "name": schema.text(tensor.name),
        "shape": schema.tensor_shape(tensor),
        "dtype": schema.tensor_type_name(tensor),
        "scale": scale,
        "zero_point": zero_point,
    }


def _parameter_bytes(parsed: Any) -> int:
    """Constants that several tensors share count once."""
    buffers = {tensor.buffer for tensor in parsed.subgraphs[0].tensors}
    return sum(len(parsed.buffers[index].data) for index in buffers if parsed.buffers[index].data is not None)


def _work(graph: Any, operators: list[Operator]) -> dict[str, int]:
    """Every output value of a convolution or dense layer costs as many as one of its filters has weights."""
    macs, depthwise_macs, parameters = 0, 0, 0
    for step in graph.operators:
        name = operators[step.opcodeIndex].name
        if name not in _MULTIPLYING or len(step.inputs) < 2 or not len(step.outputs):
            continue
        depthwise = name == "DEPTHWISE_CONV_2D"
        weights = schema.tensor_shape(graph.tensors[step.inputs[1]])
        values = math.prod(schema.tensor_shape(graph.tensors[step.outputs[0]]))
        done = values * math.prod(weights[1:3] if depthwise else weights[1:])
        macs, depthwise_macs = macs + done, depthwise_macs + done * depthwise
        parameters += math.prod(weights)
    return {"macs": macs, "depthwise_macs": depthwise_macs, "parameters": parameters}


def _metadata(parsed: Any) -> dict[str, Any] | None:
    entries = [entry for entry in parsed.metadata if schema.text(entry.name) == metadata.ENTRY_NAME]
    if not entries or parsed.buffers[entries[0].buffer].data is None:
        return None
    found = metadata.decode(bytes(parsed.buffers[entries[0].buffer].data))
    return {
        "name": found.name,
        "description": found.description,
        "version": found.version,
        "licence": found.licence,
        "normalization": list(found.normalization),
    }
