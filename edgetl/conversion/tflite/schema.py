"""Hides the TFLite file format: bytes to the schema's objects and back; this whole room reads through it."""

from __future__ import annotations

import functools
import importlib
import struct
from types import ModuleType
from typing import Any

import numpy as np

from edgetl.errors import ConversionError, MissingExtraError

ALIGNMENT = 16
"""Bytes; schema.fbs asks for it (`force_align: 16` on Buffer.data), kernels with wide loads rely on it."""


@functools.cache
def classes() -> ModuleType:
    """The classes generated from schema.fbs; MissingExtraError where the package is not installed.

    They come with the interpreter, so they are as new as the files that it runs.
    """
    return _import("ai_edge_litert.schema_py_generated")


def new_builder() -> Any:
    """A flatbuffers.Builder that lays bulk data at multiples of `ALIGNMENT`."""
    return _builder_class()(1024)


def read_model(model: bytes) -> Any:
    """A .tflite file as the schema's `ModelT`; ConversionError where it is not one with a single graph."""
    if model[4:8] != b"TFL3":
        raise ConversionError("this is not a TFLite model (no 'TFL3' at byte 4); give a .tflite file")
    try:
        parsed = classes().ModelT.InitFromPackedBuf(model, 0)
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ConversionError("the TFLite model is damaged: its tables point outside the file") from error
    if not parsed.subgraphs or len(parsed.subgraphs) != 1:
        raise ConversionError(f"the TFLite model must have one graph, received {len(parsed.subgraphs or ())}")
    _complete(parsed)
    if not _references_hold(parsed):
        raise ConversionError("the TFLite model is damaged: it refers to tensors or buffers that are not there")
    return parsed


def write_model(model: Any) -> bytes:
    """The inverse of `read_model`; weights lie where kernels expect them, at multiples of `ALIGNMENT`."""
    builder = new_builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def enum_names(enum: type) -> dict[int, str]:
    """What the values of one of the schema's enums are called."""
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def tensor_type_name(tensor: Any) -> str:
    """The element type of a tensor as numpy calls it, such as "int8"."""
    return enum_names(classes().TensorType).get(tensor.type, f"type {tensor.type}").lower()


def tensor_shape(tensor: Any) -> list[int]:
    """The sizes of a tensor's dimensions; empty for a scalar."""
    return [] if tensor.shape is None else [int(side) for side in tensor.shape]


def tensor_scale(tensor: Any) -> tuple[float, int] | None:
    """(scale, zero point) of a tensor that is quantized as a whole; None for every other one."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None
    zero_points = quantization.zeroPoint
    return float(quantization.scale[0]), 0 if zero_points is None or len(zero_points) == 0 else int(zero_points[0])


def operator_code(code: Any) -> int:
    """The builtin operator of an OperatorCode; files written before 2020 only fill the byte-wide field."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def text(value: Any) -> str:
    """A string of the schema, which its reader gives as bytes, str or None."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _complete(parsed: Any) -> None:
    """Empty lists where the schema's reader leaves None, so that callers need not tell the two apart."""
    graph = parsed.subgraphs[0]
    for owner, names in (
        (parsed, ("operatorCodes", "buffers", "metadata")),
        (graph, ("tensors", "inputs", "outputs", "operators")),
        *((step, ("inputs", "outputs")) for step in graph.operators or ()),
    ):
        for name in names:
            if getattr(owner, name) is None:
                setattr(owner, name, [])


def _references_hold(parsed: Any) -> bool:
    graph = parsed.subgraphs[0]
    tensors, buffers = range(len(graph.tensors)), range(len(parsed.buffers))
    optional = range(-1, len(graph.tensors))
    return (
        all(index in tensors for index in (*graph.inputs, *graph.outputs))
        and all(step.opcodeIndex in range(len(parsed.operatorCodes)) for step in graph.operators)
        and all(index in optional for step in graph.operators for index in step.inputs)
        and all(index in tensors for step in graph.operators for index in step.outputs)
        and all(entry.buffer in buffers for entry in (*graph.tensors, *parsed.metadata))
    )


@functools.cache
def _builder_class() -> type:
    class AligningBuilder(_import("flatbuffers").Builder):  # type: ignore[misc]
        """The generated Python code forgets `force_align`; bulk data all goes through CreateNumpyVector."""

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 - overrides flatbuffers
            self.Prep(ALIGNMENT, x.nbytes)
            return int(super().CreateNumpyVector(x))

    return AligningBuilder


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "tflite", "reading or writing a .tflite file") from error
