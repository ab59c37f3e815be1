"""Estimates how much of the Edge TPU's memory the mapped operators take.

Parameters: the layout was inferred from compiled packages and their sources (google-coral/test_data); it is exact for
the convolutions and dense layers there. Rows of output channels are in groups of up to 64, each padded, with four input
channels per word; each row is preceded by a word (two with per-channel scales) of numbers.
Activations: the bytes that are live at once, which is what the chip would need if no layer were cut.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from edgetl.conversion.tflite.graph import Graph, Operator, Tensor

GROUP_ROWS = 64
_ROWS_MULTIPLE = 16
_WORD = 4
_SOFTMAX_BYTES_PER_ELEMENT = 48  # tables of newer compilers: 48,256 bytes for 1,001 classes
_SELECTION_BYTES = 64  # a kernel that moves channels within a word; seen in one model only


@dataclass(frozen=True)
class Parameters:
    """Bytes of parameters that stay on the chip, and bytes that are sent again for every inference."""

    cached: int
    streamed: int


def estimate_parameters(graph: Graph, mapped: Collection[int], chip: Mapping[str, Any]) -> Parameters:
    """Parameters of the mapped operators, cached in order for as long as they fit.

    An estimate: within 2 percent on the convolutional models that it was inferred from. For recurrent layers and moved
    channels it was inferred from one model each.
    """
    cached = streamed = 0
    for operator in graph.operators:
        if operator.index not in mapped:
            continue
        size = parameter_bytes(graph, operator)
        fits = cached + size <= chip["parameter_bytes"]
        if fits and _inputs_of_dense(graph, operator) <= chip["largest_cached_inputs"]:
            cached += size
        else:
            streamed += size
    return Parameters(cached, streamed)


def parameter_bytes(graph: Graph, operator: Operator) -> int:
    """Bytes of one operator's parameters on the chip, with padding."""
    if operator.name in ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return _dense_bytes(graph.input(operator, 1))
    if operator.name == "DEPTHWISE_CONV_2D":
        return _depthwise_bytes(graph.input(operator, 1))
    if operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return _lstm_bytes(graph, operator)
    if operator.name == "SOFTMAX":
        tensor = graph.input(operator, 0)
        return _SOFTMAX_BYTES_PER_ELEMENT * tensor.elements if tensor is not None else 0
    if operator.name in ("CONCATENATION", "SPLIT"):
        return _SELECTION_BYTES if _moves_channels(graph, operator) else 0
    return 0


def padded_rows(rows: int) -> int:
    """Output channels padded to a multiple of 16, or of 64 if there are more than 64."""
    return _round_up(rows, GROUP_ROWS if rows > GROUP_ROWS else _ROWS_MULTIPLE)


def row_prefix_bytes(weights: Tensor) -> int:
    """Bytes of scales and biases before each row of a group."""
    return 2 * _WORD if _per_channel(weights) else _WORD


def peak_activation_bytes(graph: Graph, mapped: Collection[int]) -> int:
    """The largest number of activation bytes live at once among the mapped operators, run in order."""
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    for operator in graph.operators:
        if operator.index in mapped:
            for tensor in graph.activations(operator):
                begins.setdefault(tensor.index, operator.index)
                ends[tensor.index] = operator.index
    change = [0] * (len(graph.operators) + 1)
    for index, begin in begins.items():
        change[begin] += graph.tensors[index].size_bytes
        change[ends[index] + 1] -= graph.tensors[index].size_bytes
    live = peak = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak


def _dense_bytes(weights: Optional[Tensor]) -> int:
    """Convolution (out, height, width, in) or dense layer (out, in)."""
    if weights is None or len(weights.shape) not in (2, 4):
        return 0
    rows, *kernel, inputs = weights.shape
    positions = kernel[0] * kernel[1] if kernel else 1
    return padded_rows(rows) * (positions * _round_up(inputs, _WORD) + row_prefix_bytes(weights))


def _depthwise_bytes(weights: Optional[Tensor]) -> int:
    """Depthwise convolution (1, height, width, channels): one word for each weight."""
    if weights is None or len(weights.shape) != 4:
        return 0
    _, height, width, channels = weights.shape
    return channels * (height * width * _WORD + (4 * _WORD if _per_channel(weights) else _WORD))


def _lstm_bytes(graph: Graph, operator: Operator) -> int:
    """Four gates, and for each unrolled time step a kernel that selects it."""
    sequence, weights = graph.input(operator, 0), graph.input(operator, 1)
    if sequence is None or weights is None or len(sequence.shape) != 3 or len(weights.shape) != 2:
        return 0
    units, inputs = weights.shape
    time_steps = max(sequence.shape[:2])
    rows = _round_up(units, _ROWS_MULTIPLE)
    gates = 4 * rows * (_round_up(inputs, _WORD) + _round_up(units, _WORD) + _WORD)
    return gates + time_steps * rows * _round_up(inputs, _ROWS_MULTIPLE)


def _moves_channels(graph: Graph, operator: Operator) -> bool:
    """Whether a concatenated or split part begins within a word of four channels."""
    parts = operator.inputs if operator.name == "CONCATENATION" else operator.outputs
    begin = 0
    for index in parts[:-1]:
        shape = graph.tensors[index].shape if index >= 0 else ()
        begin += shape[-1] if shape else 0
        if begin % _WORD:
            return True
    return False


def _per_channel(weights: Tensor) -> bool:
    return weights.quantization is not None and len(weights.quantization.scales) > 1


def _inputs_of_dense(graph: Graph, operator: Operator) -> int:
    weights = graph.input(operator, 1) if operator.name == "FULLY_CONNECTED" else None
    return weights.shape[-1] if weights is not None and weights.shape else 0


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
