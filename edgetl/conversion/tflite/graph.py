"""Reads the graph of a .tflite file that may be damaged or malicious; the reader for all code that only looks.

In whatever `read_graph` returns, indices exist, shapes have at most eight dimensions, constants have the size of their
shape, and operators are in an order that can run. To change a file, use `schema`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from edgetl.conversion.tflite import schema
from edgetl.conversion.tflite.flatbuffer import (
    FLOAT32,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT32,
    UINT64,
    Buffer,
    Table,
)
from edgetl.errors import ConversionError

CUSTOM_PREFIX = "CUSTOM:"
"""Precedes the name of a custom operator in `Operator.name`."""

MAX_DIMENSIONS = 8
"""TensorFlow Lite's own kernels support six at most."""

_DTYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT32": np.int32,
    "UINT8": np.uint8,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "INT16": np.int16,
    "INT8": np.int8,
    "FLOAT64": np.float64,
    "UINT64": np.uint64,
    "UINT32": np.uint32,
    "UINT16": np.uint16,
    "COMPLEX64": np.complex64,
    "COMPLEX128": np.complex128,
}

_OptionField = tuple[int, struct.Struct, int]
"""Number, type and default of a field of an operator's option table (schema.fbs, version 3)."""

_POOL: Mapping[str, _OptionField] = {"fused_activation": (5, INT8, 0)}
_REDUCE: Mapping[str, _OptionField] = {"keep_dims": (0, UINT8, 0)}
_OPTIONS: Mapping[str, Mapping[str, _OptionField]] = {
    "CONV_2D": {
        "stride_w": (1, INT32, 0),
        "stride_h": (2, INT32, 0),
        "fused_activation": (3, INT8, 0),
        "dilation_w": (4, INT32, 1),
        "dilation_h": (5, INT32, 1),
    },
    "DEPTHWISE_CONV_2D": {
        "stride_w": (1, INT32, 0),
        "stride_h": (2, INT32, 0),
        "fused_activation": (4, INT8, 0),
        "dilation_w": (5, INT32, 1),
        "dilation_h": (6, INT32, 1),
    },
    "FULLY_CONNECTED": {"fused_activation": (0, INT8, 0), "weights_format": (1, INT8, 0)},
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "CONCATENATION": {"axis": (0, INT32, 0), "fused_activation": (1, INT8, 0)},
    "MEAN": _REDUCE,
    "SUM": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "REDUCE_MIN": _REDUCE,
    "PACK": {"values_count": (0, INT32, 0), "axis": (1, INT32, 0)},
    "STRIDED_SLICE": {"ellipsis_mask": (2, INT32, 0), "new_axis_mask": (3, INT32, 0)},
}


@dataclass(frozen=True)
class Quantization:
    """real = (integer - zero_point) * scale; one scale, or one for each slice along `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph; `data` is None if its value is known only at run time.

    `type` is the name in schema.fbs, e.g. "INT8"; `buffer` the index of the buffer that holds the value, if any does.
    """

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    variable: bool
    buffer: int
    quantization: Optional[Quantization]
    data: Optional[memoryview]

    @property
    def constant(self) -> bool:
        """Whether the file contains its value."""
        return self.data is not None

    @property
    def elements(self) -> int:
        """Number of elements; 0 if a dimension is unknown."""
        return math.prod(self.shape) if all(size > 0 for size in self.shape) else 0

    @property
    def size_bytes(self) -> int:
        """Size in memory, without padding."""
        return self.elements * np.dtype(_DTYPES.get(self.type, np.uint8)).itemsize

    def values(self) -> np.ndarray:
        """The constant as an array of the tensor's shape.

        Raises:
            ConversionError: the file has no value for it, or one that numpy cannot represent.
        """
        if self.data is None or self.type not in _DTYPES or len(self.data) != self.size_bytes:
            raise ConversionError(f"tensor {self.index} ('{self.name}') is not a plain constant array")
        return np.frombuffer(self.data, _DTYPES[self.type]).reshape(self.shape)

    @property
    def dtype(self) -> str:
        """The element type as numpy writes it, e.g. "int8"."""
        return self.type.lower()

    @property
    def scale(self) -> Optional[tuple[float, int]]:
        """(scale, zero point) if the tensor is quantized as a whole, else None."""
        if self.quantization is None or len(self.quantization.scales) != 1:
            return None
        return self.quantization.scales[0], (*self.quantization.zero_points, 0)[0]


@dataclass(frozen=True)
class OperatorCode:
    """The kind of an operator: the built-in's name, or "CUSTOM:" and the custom operator's name."""

    name: str
    code: int
    version: int


@dataclass(frozen=True)
class Operator:
    """One operator; `inputs` and `outputs` are tensor indices, -1 for an omitted optional input.

    `name`, `code` and `version` are those of its operator code.
    """

    index: int
    name: str
    code: int
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int]
    custom_options: memoryview


@dataclass(frozen=True)
class Graph:
    """The first subgraph of a .tflite file, which is the one that runs.

    `inputs` and `outputs` are tensor indices. `subgraphs` is the number of subgraphs in the file. `operator_codes` are
    all that the file declares, `buffers` the constants, `metadata` the file's metadata entries by name.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    operator_codes: tuple[OperatorCode, ...]
    buffers: tuple[Optional[memoryview], ...]
    metadata: Mapping[str, memoryview]

    def input(self, operator: Operator, position: int) -> Optional[Tensor]:
        """The tensor at one of an operator's inputs, or None if that input is absent."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            return None
        return self.tensors[operator.inputs[position]]

    def output(self, operator: Operator, position: int = 0) -> Optional[Tensor]:
        """The tensor at one of an operator's outputs, or None if it has fewer outputs."""
        return self.tensors[operator.outputs[position]] if position < len(operator.outputs) else None

    def activations(self, operator: Operator) -> list[Tensor]:
        """The tensors that the operator reads and writes at run time: non-constant inputs, and outputs."""
        inputs = [self.tensors[index] for index in operator.inputs if index >= 0]
        outputs = [self.tensors[index] for index in operator.outputs]
        return [tensor for tensor in inputs if not tensor.constant] + outputs


def read_graph(content: bytes) -> Graph:
    """The first subgraph of a .tflite file.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
        MissingExtraError: ai-edge-litert, which knows the operators' names, is not installed.
    """
    buffer = Buffer(content, schema.SUBJECT)
    root = buffer.root(schema.IDENTIFIER)
    subgraphs = root.tables(2)
    if not subgraphs:
        raise buffer.fault("it has no subgraph")
    first = subgraphs[0]
    constants = [_constant(table) for table in root.tables(4)]
    codes = [_operator_code(table) for table in root.tables(1)]
    tensors = [_tensor(index, table, constants) for index, table in enumerate(first.tables(0))]
    operators = [_operator(index, table, codes) for index, table in enumerate(first.tables(3))]
    inputs, outputs = first.numbers(1, INT32), first.numbers(2, INT32)
    written = {*inputs, *(index for operator in operators for index in operator.outputs)}
    graph = Graph(
        tensors=tuple(tensor if tensor.index in written else _filled_if_empty(tensor) for tensor in tensors),
        operators=tuple(operators),
        inputs=inputs,
        outputs=outputs,
        subgraphs=len(subgraphs),
        operator_codes=tuple(codes),
        buffers=tuple(constants),
        metadata=_metadata(root, constants),
    )
    _check_graph(graph, buffer)
    return graph


def read_single_graph(content: bytes) -> Graph:
    """The graph of a .tflite file that has one subgraph and no other.

    Raises:
        ConversionError: the bytes are not an intact .tflite file, or it has several subgraphs.
        MissingExtraError: ai-edge-litert is not installed.
    """
    graph = read_graph(content)
    if graph.subgraphs != 1:
        raise ConversionError(f"the TFLite model must have one subgraph, received {graph.subgraphs}")
    return graph


def _constant(table: Table) -> Optional[memoryview]:
    """A buffer's bytes: inside the flatbuffer, or after it in models larger than 2 GB."""
    inside = table.octets(0)
    offset, size = table.number(1, UINT64), table.number(2, UINT64)
    content = inside if len(inside) or offset <= 1 else table.buffer.part(offset, size)
    return content if len(content) else None


def _metadata(root: Table, constants: list[Optional[memoryview]]) -> dict[str, memoryview]:
    entries: dict[str, memoryview] = {}
    for table in root.tables(6):
        place = table.number(1, UINT32)
        if place >= len(constants):
            raise table.buffer.fault(f"a metadata entry refers to buffer {place} of {len(constants)}")
        content = constants[place]
        entries.setdefault(table.text(0), memoryview(b"") if content is None else content)
    return entries


def _tensor(index: int, table: Table, constants: list[Optional[memoryview]]) -> Tensor:
    buffer = table.buffer
    shape, place, code = table.numbers(0, INT32), table.number(2, UINT32), table.number(1, INT8)
    type_name = schema.tensor_types().get(code, f"TYPE_{code}")
    if len(shape) > MAX_DIMENSIONS:
        raise buffer.fault(f"tensor {index} has {len(shape)} dimensions, expected at most {MAX_DIMENSIONS}")
    if place >= max(1, len(constants)):
        raise buffer.fault(f"tensor {index} refers to buffer {place} of {len(constants)}")
    tensor = Tensor(
        index=index,
        name=table.text(3),
        type=type_name,
        shape=shape,
        signature=table.numbers(7, INT32),
        variable=bool(table.number(5, UINT8)),
        buffer=place,
        quantization=_quantization(table.table(4)),
        data=constants[place] if constants else None,
    )
    dense = table.table(6) is None and type_name in _DTYPES
    if dense and tensor.data is not None and len(tensor.data) != tensor.size_bytes:
        size = len(tensor.data)
        raise buffer.fault(f"tensor {index} has {size} bytes of data, which does not match its shape {shape}")
    return tensor


def _filled_if_empty(tensor: Tensor) -> Tensor:
    """A tensor that nothing writes is a constant if it has no elements, e.g. the shape of a scalar."""
    empty = tensor.data is None and 0 in tensor.shape and min(tensor.shape) == 0
    return replace(tensor, data=memoryview(b"")) if empty else tensor


def _quantization(table: Optional[Table]) -> Optional[Quantization]:
    if table is None or not (scales := table.numbers(2, FLOAT32)):
        return None
    return Quantization(scales, table.numbers(3, INT64), table.number(6, INT32))


def _operator_code(table: Table) -> OperatorCode:
    # Files written before 2020 fill only the byte-wide field 0.
    code = max(table.number(0, INT8), table.number(3, INT32))
    name = schema.builtin_operators().get(code, f"BUILTIN_{code}")
    if name == "CUSTOM":
        name = f"{CUSTOM_PREFIX}{table.text(1)}"
    return OperatorCode(name, code, table.number(2, INT32, 1))


def _operator(index: int, table: Table, codes: list[OperatorCode]) -> Operator:
    place = table.number(0, UINT32)
    if place >= len(codes):
        raise table.buffer.fault(f"operator {index} refers to code {place} of {len(codes)}")
    code = codes[place]
    table.buffer.spend(len(code.name))  # whoever lists the operators repeats it
    options = table.table(4) if code.name in _OPTIONS else None
    return Operator(
        index=index,
        name=code.name,
        code=code.code,
        version=code.version,
        inputs=table.numbers(1, INT32),
        outputs=table.numbers(2, INT32),
        options={
            key: default if options is None else options.number(field, kind, default)
            for key, (field, kind, default) in _OPTIONS.get(code.name, {}).items()
        },
        custom_options=table.octets(5) if code.name.startswith(CUSTOM_PREFIX) else memoryview(b""),
    )


def _check_graph(graph: Graph, buffer: Buffer) -> None:
    """Raise unless indices exist, tensors are written once, and operators read only what is already written."""
    count = len(graph.tensors)
    for index in (*graph.inputs, *graph.outputs):
        if not 0 <= index < count:
            raise buffer.fault(f"the graph refers to tensor {index} of {count}")
        buffer.spend(len(graph.tensors[index].name))  # whoever lists inputs and outputs repeats it
    writer: dict[int, int] = {}
    for operator in graph.operators:
        if any(not -1 <= index < count for index in operator.inputs):
            raise buffer.fault(f"operator {operator.index} reads a tensor that does not exist")
        for index in operator.outputs:
            if not 0 <= index < count:
                raise buffer.fault(f"operator {operator.index} writes tensor {index} of {count}")
            if index in writer or graph.tensors[index].constant:
                raise buffer.fault(f"operator {operator.index} writes tensor {index}, which is already set")
            writer[index] = operator.index
    for operator in graph.operators:
        for index in operator.inputs:
            if writer.get(index, -1) >= operator.index:
                raise buffer.fault(f"operator {operator.index} reads tensor {index} before it is written")
