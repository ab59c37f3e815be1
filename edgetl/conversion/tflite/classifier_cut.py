"""Removes the classifier at the end of a compiled model, so that its output is the embedding below."""

from __future__ import annotations

import math
from typing import Any, Optional

from edgetl.conversion.tflite import schema

_CLASSIFIERS = frozenset(("SOFTMAX", "LOGISTIC", "LOG_SOFTMAX"))
_DENSE = frozenset(("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"))
_UNCHANGED = frozenset(
    ("ADD", "CAST", "DEQUANTIZE", "DIV", "MUL", "QUANTIZE", "RESHAPE", "SQUEEZE", "SUB")
)  # between pooling and probabilities, those change no position


def cut_classifier(model: bytes) -> Optional[bytes]:
    """A model that ends in probabilities, without them and the layers after its last pooling; else None.

    Probabilities are the output of SOFTMAX, LOGISTIC or LOG_SOFTMAX. The new output is the input of the first dense
    layer that sees a single position. `model` itself is returned if it ends in something else.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
    """
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    if len(graph.outputs) != 1:
        return model
    tail = _Tail(parsed)
    index = tail.before_unchanged(graph.outputs[0])
    if tail.name_of(index) not in _CLASSIFIERS:
        return model
    embedding = tail.embedding_below(index)
    if embedding is None:
        return None
    graph.outputs = [embedding]
    _remove_unused(parsed)
    parsed.signatureDefs = []
    return schema.write_model(parsed)


class _Tail:
    """The operators of a graph by the tensor that each of them writes."""

    def __init__(self, parsed: Any) -> None:
        self._codes = parsed.operatorCodes
        self._graph = parsed.subgraphs[0]
        self._writers = {output: operator for operator in self._graph.operators for output in operator.outputs}
        self._steps = len(self._graph.operators)

    def name_of(self, tensor: int) -> str:
        """The operator that writes a tensor; empty if none does."""
        if tensor not in self._writers:
            return ""
        code = self._codes[self._writers[tensor].opcodeIndex]
        return schema.builtin_operators().get(max(code.builtinCode, code.deprecatedBuiltinCode), "")

    def before_unchanged(self, tensor: int) -> int:
        """The tensor before operators that only rewrite its numbers."""
        for _ in range(self._steps):
            if self.name_of(tensor) not in _UNCHANGED:
                break
            tensor = self._source(tensor)
        return tensor

    def embedding_below(self, tensor: int) -> Optional[int]:
        """The input of the first dense layer in the chain that ends in `tensor`; None without such a layer."""
        embedding = None
        for _ in range(self._steps):
            name, source = self.name_of(tensor), self._source(tensor)
            if name not in _DENSE | _UNCHANGED | _CLASSIFIERS | {"RELU", "RELU6", "HARD_SWISH", "TANH"}:
                break
            if self._positions(source) > 1:
                break
            if name in _DENSE:
                embedding = source
            tensor = source
        return embedding

    def _source(self, tensor: int) -> int:
        if tensor not in self._writers:
            return tensor
        computed = [index for index in self._writers[tensor].inputs if index in self._writers]
        inputs = computed or list(self._writers[tensor].inputs)
        return int(inputs[0]) if inputs else tensor

    def _positions(self, tensor: int) -> int:
        shape = schema.tensor_shape(self._graph.tensors[tensor])
        return math.prod(shape[:-1])


def _remove_unused(parsed: Any) -> None:
    """Removes the operators that the output does not need, and the operator codes that none uses."""
    graph = parsed.subgraphs[0]
    needed, kept = set(graph.outputs), []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            kept.append(operator)
            needed.update(operator.inputs)
    graph.operators = kept[::-1]
    used = sorted({operator.opcodeIndex for operator in kept})
    for operator in kept:
        operator.opcodeIndex = used.index(operator.opcodeIndex)
    parsed.operatorCodes = [parsed.operatorCodes[index] for index in used]
