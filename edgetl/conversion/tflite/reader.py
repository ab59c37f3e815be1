"""Hides the layout of a .tflite file; the analysis, the package reader and the verification call it.

Nothing here trusts the file: whatever `read_model` returns has indices that exist, shapes of at most eight
dimensions, constants of the size that their shape says, and operators in an order that can run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

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
from edgetl.errors import ConversionError, MissingExtraError

MAX_DIMENSIONS = 8  # TensorFlow Lite's own kernels stop at six

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

# Fields of the operators' option tables that a rule may ask for: number, kind, default (schema.fbs, version 3).
_POOL = {"fused_activation": (5, INT8, 0)}
_REDUCE = {"keep_dims": (0, UINT8, 0)}
_OPTIONS: Mapping[str, Mapping[str, tuple]] = {
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
    """One tensor of the graph; `data` is None where its value is known only at run time."""

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    variable: bool
    quantization: Optional[Quantization]
    data: Optional[memoryview]

    @property
    def constant(self) -> bool:
        """Whether the file holds its value."""
        return self.data is not None

    @property
    def elements(self) -> int:
        """How many numbers it has; 0 where a dimension is unknown."""
        return math.prod(self.shape) if all(size > 0 for size in self.shape) else 0

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, unpadded."""
        return self.elements * np.dtype(_DTYPES.get(self.type, np.uint8)).itemsize

    def values(self) -> np.ndarray:
        """The constant as an array of the tensor's shape.

        Raises:
            ConversionError: there is no value in the file, or not one that numpy can hold.
        """
        if self.data is None or self.type not in _DTYPES or len(self.data) != self.size_bytes:
            raise ConversionError(f"tensor {self.index} ('{self.name}') holds no plain array of its shape")
        return np.frombuffer(self.data, _DTYPES[self.type]).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator; `inputs` and `outputs` are tensor indices, -1 for an optional input left out.

    `name` is the built-in's, or "CUSTOM:" and the custom one's.
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
class Model:
    """The first subgraph of a .tflite file, which is the one that runs; `subgraphs` counts them all."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int

    def input(self, operator: Operator, position: int) -> Optional[Tensor]:
        """The tensor at an operator's input, or None where it has none there."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            return None
        return self.tensors[operator.inputs[position]]

    def output(self, operator: Operator, position: int = 0) -> Optional[Tensor]:
        """The tensor at an operator's output, or None where it has none there."""
        return self.tensors[operator.outputs[position]] if position < len(operator.outputs) else None

    def activations(self, operator: Operator) -> list[Tensor]:
        """What flows through the operator at run time: its inputs that are not constant, and its outputs."""
        through = [self.tensors[index] for index in operator.inputs if index >= 0]
        through = [tensor for tensor in through if not tensor.constant]
        return through + [self.tensors[index] for index in operator.outputs]


def read_model(content: bytes) -> Model:
    """The graph of a .tflite file.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
        MissingExtraError: the package `tflite`, which knows the operators' names, is not installed.
    """
    buffer = Buffer(content, "the model")
    root = buffer.root(b"TFL3")
    subgraphs = root.tables(2)
    if not subgraphs:
        raise buffer.fault("it has no subgraph")
    graph = subgraphs[0]
    constants = [_constant(table) for table in root.tables(4)]
    tensors = tuple(_tensor(index, table, constants) for index, table in enumerate(graph.tables(0)))
    codes = [_operator_code(table) for table in root.tables(1)]
    operators = tuple(_operator(index, table, codes) for index, table in enumerate(graph.tables(3)))
    inputs, outputs = graph.numbers(1, INT32), graph.numbers(2, INT32)
    given = {*inputs, *(index for operator in operators for index in operator.outputs)}
    tensors = tuple(tensor if tensor.index in given else _settled(tensor) for tensor in tensors)
    model = Model(tensors, operators, inputs, outputs, len(subgraphs))
    _check_graph(model, buffer)
    return model


@functools.cache
def _names() -> tuple[Mapping[int, str], Mapping[int, str]]:
    """The names of operators and of tensor types, by their numbers in the schema."""
    try:
        from tflite import BuiltinOperator, TensorType
    except ImportError as error:
        raise MissingExtraError("tflite", "host", "reading a .tflite file") from error
    operators = {value: name for name, value in vars(BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(TensorType).items() if isinstance(value, int)}
    return operators, types


def _constant(table: Table) -> Optional[memoryview]:
    """A buffer's bytes: inside the flatbuffer, or behind it for models above 2 GB."""
    inside = table.octets(0)
    offset, size = table.number(1, UINT64), table.number(2, UINT64)
    content = inside if len(inside) or offset <= 1 else table.buffer.part(offset, size)
    return content if len(content) else None


def _tensor(index: int, table: Table, constants: list[Optional[memoryview]]) -> Tensor:
    buffer = table.buffer
    shape, place, code = table.numbers(0, INT32), table.number(2, UINT32), table.number(1, INT8)
    type_name = _names()[1].get(code, f"TYPE_{code}")
    if len(shape) > MAX_DIMENSIONS:
        raise buffer.fault(f"tensor {index} has {len(shape)} dimensions, at most {MAX_DIMENSIONS} can run")
    if place >= max(1, len(constants)):
        raise buffer.fault(f"tensor {index} wants buffer {place} of {len(constants)}")
    tensor = Tensor(
        index=index,
        name=table.text(3),
        type=type_name,
        shape=shape,
        signature=table.numbers(7, INT32),
        variable=bool(table.number(5, UINT8)),
        quantization=_quantization(table.table(4)),
        data=constants[place] if constants else None,
    )
    plain = table.table(6) is None and type_name in _DTYPES
    if plain and tensor.data is not None and len(tensor.data) != tensor.size_bytes:
        raise buffer.fault(f"tensor {index} holds {len(tensor.data)} bytes, its shape {shape} is not that size")
    return tensor


def _settled(tensor: Tensor) -> Tensor:
    """A tensor that nothing gives a value is constant where it has no elements, such as a scalar's shape."""
    empty = tensor.data is None and 0 in tensor.shape and min(tensor.shape) == 0
    return replace(tensor, data=memoryview(b"")) if empty else tensor


def _quantization(table: Optional[Table]) -> Optional[Quantization]:
    if table is None or not (scales := table.numbers(2, FLOAT32)):
        return None
    return Quantization(scales, table.numbers(3, INT64), table.number(6, INT32))


def _operator_code(table: Table) -> tuple[str, int, int]:
    code = max(table.number(0, INT8), table.number(3, INT32))
    name = _names()[0].get(code, f"BUILTIN_{code}")
    return f"CUSTOM:{table.text(1)}" if name == "CUSTOM" else name, code, table.number(2, INT32, 1)


def _operator(index: int, table: Table, codes: list[tuple[str, int, int]]) -> Operator:
    place = table.number(0, UINT32)
    if place >= len(codes):
        raise table.buffer.fault(f"operator {index} wants code {place} of {len(codes)}")
    name, code, version = codes[place]
    options = table.table(4) if name in _OPTIONS else None
    return Operator(
        index=index,
        name=name,
        code=code,
        version=version,
        inputs=table.numbers(1, INT32),
        outputs=table.numbers(2, INT32),
        options={
            key: default if options is None else options.number(field, kind, default)
            for key, (field, kind, default) in _OPTIONS.get(name, {}).items()
        },
        custom_options=table.octets(5) if name.startswith("CUSTOM:") else memoryview(b""),
    )


def _check_graph(model: Model, buffer: Buffer) -> None:
    """Indices exist, nothing is written twice, and no operator reads what a later one writes."""
    count = len(model.tensors)
    for index in (*model.inputs, *model.outputs):
        if not 0 <= index < count:
            raise buffer.fault(f"the graph names tensor {index} of {count}")
    writer: dict[int, int] = {}
    for operator in model.operators:
        if any(not -1 <= index < count for index in operator.inputs):
            raise buffer.fault(f"operator {operator.index} reads a tensor that is not there")
        for index in operator.outputs:
            if not 0 <= index < count:
                raise buffer.fault(f"operator {operator.index} writes tensor {index} of {count}")
            if index in writer or model.tensors[index].constant:
                raise buffer.fault(f"operator {operator.index} writes tensor {index}, which is already set")
            writer[index] = operator.index
    for operator in model.operators:
        for index in operator.inputs:
            if writer.get(index, -1) >= operator.index:
                raise buffer.fault(f"operator {operator.index} reads tensor {index} before it is written")
