"""Builds small .tflite files for the tests, one tensor and operator at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

NUMPY = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT16": np.int16, "FLOAT32": np.float32}


class GraphBuilder:
    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int],
        kind: str = "INT8",
        values: Any = None,
        scales: Sequence[float] = (0.5,),
        variable: bool = False,
        signature: Sequence[int] | None = None,
    ) -> int:
        """A tensor; constant where `values` are given (one number fills it)."""
        tensor = schema.TensorT()
        tensor.name = f"t{len(self.graph.tensors)}"
        tensor.shape, tensor.isVariable = list(shape), variable
        tensor.type = getattr(schema.TensorType, kind)
        tensor.shapeSignature = None if signature is None else list(signature)
        tensor.buffer = 0
        if kind in ("INT8", "UINT8", "INT16"):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(scales)
            tensor.quantization.zeroPoint = [0] * len(scales)
        if values is not None:
            buffer = schema.BufferT()
            content = np.broadcast_to(np.asarray(values, NUMPY[kind]).reshape(-1), (int(np.prod(shape)),))
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        name: str | int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        version: int = 1,
        custom: str = "",
    ) -> None:
        code = schema.OperatorCodeT()
        number = name if isinstance(name, int) else getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.builtinCode = min(number, 127), number
        code.version, code.customCode = version, custom or None
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        return pack(self.model)


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpack(content: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def options(kind: str, **values: Any) -> Any:
    """An option table of the schema with these fields set."""
    table = getattr(schema, f"{kind}T")()
    for name, value in values.items():
        assert hasattr(table, name), name
        setattr(table, name, value)
    return table


def one_operator(
    name: str | int,
    inputs: Sequence[dict[str, Any]],
    outputs: Sequence[dict[str, Any]],
    table: Any = None,
    version: int = 1,
    custom: str = "",
) -> bytes:
    """A model of a single operator; the tensors are given as the arguments of `GraphBuilder.tensor`."""
    builder = GraphBuilder()
    read = [builder.tensor(**tensor) if tensor else -1 for tensor in inputs]
    written = [builder.tensor(**tensor) for tensor in outputs]
    builder.operator(name, read, written, table, version, custom)
    entering = [index for index, tensor in zip(read, inputs) if tensor and tensor.get("values") is None]
    return builder.build([index for index in entering if not builder.graph.tensors[index].isVariable], written)
