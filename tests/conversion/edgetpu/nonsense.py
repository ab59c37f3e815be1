"""Whole .tflite files that no converter would write: any operator on any tensors, with any options or none."""

from __future__ import annotations

import random

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.conversion.edgetpu.graphs import GraphBuilder

CODES = [value for value in vars(schema.BuiltinOperator).values() if isinstance(value, int)]
CODES += [500, -1] + [code for code in (3, 4, 5, 9, 22, 25, 34, 39, 40, 49) for _ in range(20)]
KINDS = ["INT8", "INT8", "UINT8", *(name for name in vars(schema.TensorType) if name.isupper())]
DTYPES = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}
OPTIONS = [name for name in vars(schema.BuiltinOptions) if hasattr(schema, f"{name}T")]


def nonsense(chance: random.Random) -> bytes:
    """A model of up to five operators and up to three inputs."""
    builder = GraphBuilder()
    inputs = [_tensor(builder, chance) for _ in range(chance.randrange(4))]
    flowing = list(inputs)
    for _ in range(chance.randrange(6)):
        read = [_operand(builder, chance, flowing) for _ in range(chance.choice([0, 1, 2, 2, 3, 3, 4, 5, 20]))]
        written = [_tensor(builder, chance) for _ in range(chance.choice([0, 1, 1, 1, 2]))]
        table = getattr(schema, f"{chance.choice(OPTIONS)}T")() if chance.random() < 0.6 else None
        custom = chance.choice(["", "odd", "edgetpu-custom-op"])
        builder.operator(chance.choice(CODES), read, written, table, chance.choice([1, 1, 1, 0, 3, 99, -5]), custom)
        flowing += written
    return builder.build(inputs, [chance.choice(flowing)] if flowing else [])


def _operand(builder: GraphBuilder, chance: random.Random, flowing: list[int]) -> int:
    if flowing and chance.random() < 0.6:
        return chance.choice(flowing)
    return -1 if chance.random() < 0.2 else _tensor(builder, chance, constant=True)


def _tensor(builder: GraphBuilder, chance: random.Random, constant: bool = False) -> int:
    kind = chance.choice(KINDS)
    shape = [chance.choice([0, 1, 1, 1, 2, 4, 17]) for _ in range(chance.choice([0, 1, 2, 3, 4, 4, 6]))]
    if not constant and chance.random() < 0.1:
        shape = [-1, *shape]
    signature = [-1] * len(shape) if chance.random() < 0.2 else None
    index = builder.tensor(shape, kind, variable=chance.random() < 0.1, signature=signature)
    tensor = builder.graph.tensors[index]
    if chance.random() < 0.5:
        tensor.quantization = schema.QuantizationParametersT()
        count = chance.choice([0, 1, 1, 2])
        tensor.quantization.scale = [chance.choice([0.0, 0.5, float("nan")])] * count
        tensor.quantization.zeroPoint = [chance.choice([0, -128, 1 << 40])] * chance.choice([0, count])
        tensor.quantization.quantizedDimension = chance.choice([0, 3, 9, -1])
    if constant and kind in DTYPES:
        numbers = [chance.choice([-3, -1, 0, 1, 2, 100]) for _ in range(int(np.prod(shape)))]
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.array(numbers, np.int64).astype(DTYPES[kind]).tobytes(), np.uint8)
        tensor.buffer = len(builder.model.buffers)
        builder.model.buffers.append(buffer)
    return index
