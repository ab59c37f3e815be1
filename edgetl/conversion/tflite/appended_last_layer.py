"""Appends the last layer and the labels to a compiled backbone: a .tflite classifier that needs no edgetl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetl.conversion.tflite import metadata, schema
from edgetl.errors import ConversionError
from edgetl.learners import GRID


def append_last_layer(
    model: bytes,
    weights: np.ndarray,
    bias: np.ndarray,
    labels: Sequence[str],
    *,
    temperature: float = 1.0,
    name: str = "classifier",
    description: str = "Image classifier made with edgetl",
    version: str = "1",
    licence: str = "",
) -> bytes:
    """A compiled backbone as a classifier: uint8 RGB (1, h, w, 3) in, probabilities (1, K) float32 out.

    The embedding (int8, uint8 or float32, also from an Edge TPU) goes through DEQUANTIZE; RESHAPE if it is
    (1, 1, 1, d); L2_NORMALIZATION, MUL and ROUND, which make it a fixed-point embedding; FULLY_CONNECTED and SOFTMAX.
    This computes what `learners.LastLayer` computes. `weights` are float (d, K), `bias` (K,). Labels and
    normalisation are included as TFLite metadata.

    Raises:
        ConversionError: the model is damaged, or the last layer does not fit its embedding.
    """
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    frame = _only(graph.inputs, "input")
    embedding = _only(graph.outputs, "output")
    shape = schema.tensor_shape(graph.tensors[embedding])
    _check_last_layer(shape, weights, bias, labels, temperature)
    tail, size, classes = _Tail(parsed), (1, len(weights)), (1, len(labels))
    vector = embedding
    if schema.tensor_type_name(graph.tensors[embedding]) != "float32":
        vector = tail.add("DEQUANTIZE", 2, [vector], shape, "embedding")
    if len(shape) != 2:
        wanted = tail.constant("shape", np.array(size, np.int32))
        vector = tail.add("RESHAPE", 1, [vector, wanted], size, "vector", "ReshapeOptions", newShape=list(size))
    vector = tail.add("L2_NORMALIZATION", 1, [vector], size, "normalized", "L2NormOptions")
    grid = tail.constant("grid", np.array([GRID], np.float32))
    vector = tail.add("MUL", 1, [vector, grid], size, "scaled", "MulOptions")
    vector = tail.add("ROUND", 1, [vector], size, "on_grid")
    layer = [tail.constant("weights", weights.T / (GRID * temperature)), tail.constant("bias", bias / temperature)]
    vector = tail.add("FULLY_CONNECTED", 1, [vector, *layer], classes, "scores", "FullyConnectedOptions")
    vector = tail.add("SOFTMAX", 1, [vector], classes, "probabilities", "SoftmaxOptions", beta=1.0)
    graph.outputs = [vector]
    parsed.signatureDefs = []
    tail.set_metadata(metadata.ModelMetadata(name, description, version, licence, _normalization(graph.tensors[frame])))
    return metadata.append_labels(schema.write_model(parsed), labels)


class _Tail:
    """Appends operators and their tensors to the graph of an unpacked model.

    All tensors are float32, except for int32 shapes.
    """

    def __init__(self, model: Any) -> None:
        self._classes = schema.classes()
        self._model = model
        self._graph = model.subgraphs[0]

    def constant(self, name: str, values: np.ndarray) -> int:
        """Add a constant tensor; returns its index."""
        integers = values.dtype == np.int32
        content = np.ascontiguousarray(values, dtype="<i4" if integers else "<f4")
        kind = self._classes.TensorType.INT32 if integers else self._classes.TensorType.FLOAT32
        return self._tensor(name, content.shape, self._buffer(content.view(np.uint8).reshape(-1)), kind)

    def add(
        self,
        name: str,
        version: int,
        inputs: list[int],
        shape: Sequence[int],
        output: str,
        options: str = "",
        **values: Any,
    ) -> int:
        """Add an operator with one float32 output of `shape`; returns the index of the output."""
        classes = self._classes
        operator = classes.OperatorT()
        operator.opcodeIndex = self._code(getattr(classes.BuiltinOperator, name), version)
        operator.inputs = inputs
        operator.outputs = [self._tensor(output, shape, 0, classes.TensorType.FLOAT32)]
        if options:
            operator.builtinOptionsType = getattr(classes.BuiltinOptions, options)
            operator.builtinOptions = getattr(classes, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)
        return int(operator.outputs[0])

    def set_metadata(self, content: metadata.ModelMetadata) -> None:
        """Add TFLite metadata, replacing any that the model has."""
        entry = self._classes.MetadataT()
        entry.name = metadata.ENTRY_NAME
        entry.buffer = self._buffer(np.frombuffer(metadata.encode(content), np.uint8))
        others = [other for other in self._model.metadata if schema.text(other.name) != entry.name]
        self._model.metadata = [*others, entry]

    def _tensor(self, name: str, shape: Sequence[int], buffer: int, kind: int) -> int:
        tensor = self._classes.TensorT()
        tensor.name = f"last_layer/{name}"
        tensor.shape = list(shape)
        tensor.type = kind
        tensor.buffer = buffer
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _buffer(self, content: np.ndarray) -> int:
        buffer = self._classes.BufferT()
        buffer.data = content
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _code(self, builtin: int, version: int) -> int:
        code = self._classes.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def _check_last_layer(
    shape: Sequence[int], weights: np.ndarray, bias: np.ndarray, labels: Sequence[str], temperature: float
) -> None:
    expected = (int(shape[-1]), len(labels))
    if weights.shape != expected or bias.shape != expected[1:]:
        raise ConversionError(
            f"the last layer must have weights {expected} and bias {expected[1:]}, "
            f"received {weights.shape} and {bias.shape}; take both from the same bundle"
        )
    if not (temperature > 0 and np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ConversionError(
            f"the last layer must be finite and its temperature above 0, received temperature {temperature}"
        )


def _normalization(frame: Any) -> tuple[float, float]:
    """The (mean, std) with which a client, after quantizing, feeds raw pixels: the model normalises inside."""
    quantization = schema.tensor_scale(frame)
    if quantization is None:
        return 0.0, 1.0
    scale, zero_point = quantization
    return float(zero_point), 1 / scale


def _only(indices: Sequence[int], role: str) -> int:
    if len(indices) != 1:
        raise ConversionError(f"the model must have one {role}, received {len(indices)}")
    return int(indices[0])
