"""Unpacks a .tflite file into the schema's generated objects, and packs them again; for code that changes a file.

The objects are untyped and mutable, one class for each table of schema.fbs. To look at a file, use `graph`, which is
typed and checks more. Both charge what they read to the budget of `flatbuffer.Buffer`, so neither hangs on a
malicious file.
"""

from __future__ import annotations

import functools
import importlib
import struct
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from edgetl.conversion.tflite import read_budget
from edgetl.conversion.tflite.flatbuffer import Buffer
from edgetl.errors import ConversionError, MissingExtraError

ALIGNMENT = 16
"""Bytes. Required by schema.fbs (`force_align: 16` on Buffer.data) and by kernels with wide loads."""

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of every .tflite file."""

SUBJECT = "the TFLite model"
"""What error messages call a .tflite file."""


@functools.cache
def classes() -> ModuleType:
    """The module of classes generated from schema.fbs.

    It is part of the interpreter's package, so it knows every file that the interpreter runs.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    return _import("ai_edge_litert.schema_py_generated")


@functools.cache
def builtin_operators() -> Mapping[int, str]:
    """Names of the built-in operators by code, e.g. 3: "CONV_2D"."""
    return _enum_names(classes().BuiltinOperator)


@functools.cache
def tensor_types() -> Mapping[int, str]:
    """Names of the element types by code, e.g. 9: "INT8"."""
    return _enum_names(classes().TensorType)


def new_builder() -> Any:
    """A flatbuffers.Builder that places bulk data at multiples of `ALIGNMENT`."""
    return _builder_class()(1024)


def read_model(model: bytes) -> Any:
    """A .tflite file as the schema's `ModelT`, with empty lists where the file leaves a list out.

    Raises:
        ConversionError: the bytes are not an intact .tflite file with one subgraph.
        MissingExtraError: ai-edge-litert is not installed.
    """
    read_budget.charge(Buffer(model, SUBJECT).root(IDENTIFIER))
    try:
        parsed = classes().ModelT.InitFromPackedBuf(model, 0)
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ConversionError(f"{SUBJECT} is damaged: it points outside itself; give an intact file") from error
    if not parsed.subgraphs or len(parsed.subgraphs) != 1:
        raise ConversionError(f"{SUBJECT} must have one subgraph, received {len(parsed.subgraphs or ())}")
    _replace_missing_lists(parsed)
    if not _references_exist(parsed):
        raise ConversionError(f"{SUBJECT} is damaged: it refers to missing tensors or buffers; give an intact file")
    return parsed


def write_model(model: Any) -> bytes:
    """The inverse of `read_model`, with weights aligned to multiples of `ALIGNMENT`."""
    builder = new_builder()
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def tensor_type_name(tensor: Any) -> str:
    """The element type of a tensor as numpy writes it, e.g. "int8"."""
    return tensor_types().get(tensor.type, f"type_{tensor.type}").lower()


def tensor_shape(tensor: Any) -> list[int]:
    """The shape of a tensor; empty for a scalar."""
    return [] if tensor.shape is None else [int(side) for side in tensor.shape]


def tensor_scale(tensor: Any) -> tuple[float, int] | None:
    """(scale, zero point) of a tensor that is quantized as a whole, else None."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None
    zero_points = quantization.zeroPoint
    return float(quantization.scale[0]), 0 if zero_points is None or len(zero_points) == 0 else int(zero_points[0])


def text(value: Any) -> str:
    """A string field, which the generated code returns as bytes, str or None."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _enum_names(enum: type) -> Mapping[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _replace_missing_lists(parsed: Any) -> None:
    """Put empty lists where the generated code leaves None."""
    graph = parsed.subgraphs[0]
    for owner, names in (
        (parsed, ("operatorCodes", "buffers", "metadata")),
        (graph, ("tensors", "inputs", "outputs", "operators")),
        *((operator, ("inputs", "outputs")) for operator in graph.operators or ()),
    ):
        for name in names:
            if getattr(owner, name) is None:
                setattr(owner, name, [])


def _references_exist(parsed: Any) -> bool:
    graph = parsed.subgraphs[0]
    tensors, buffers = range(len(graph.tensors)), range(len(parsed.buffers))
    optional = range(-1, len(graph.tensors))
    return (
        all(index in tensors for index in (*graph.inputs, *graph.outputs))
        and all(operator.opcodeIndex in range(len(parsed.operatorCodes)) for operator in graph.operators)
        and all(index in optional for operator in graph.operators for index in operator.inputs)
        and all(index in tensors for operator in graph.operators for index in operator.outputs)
        and all(entry.buffer in buffers for entry in (*graph.tensors, *parsed.metadata))
    )


@functools.cache
def _builder_class() -> type:
    class AligningBuilder(_import("flatbuffers").Builder):  # type: ignore[misc]
        """Adds the `force_align` that the generated code omits; all bulk data goes through CreateNumpyVector."""

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 - overrides flatbuffers
            self.Prep(ALIGNMENT, x.nbytes)
            return int(super().CreateNumpyVector(x))

    return AligningBuilder


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "tflite", "reading or writing a .tflite file") from error
