"""Reads what the Edge TPU compiler wrote into a .tflite file.

A compiled model is a .tflite file whose custom operator contains a flexbuffer, which contains a DarwiNN package, which
contains executables (libedgetpu: tflite/custom_op_data.cc, executable/executable.fbs).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from edgetl.conversion.edgetpu.flexbuffer import read_map
from edgetl.conversion.tflite.flatbuffer import FLOAT32, INT16, INT32, Buffer, Table
from edgetl.conversion.tflite.graph import CUSTOM_PREFIX, Graph, Operator, read_graph
from edgetl.conversion.tflite.operators import EDGETPU_OPERATOR
from edgetl.errors import ConversionError

CUSTOM_OPERATOR = f"{CUSTOM_PREFIX}{EDGETPU_OPERATOR}"

_KINDS = {0: "stand-alone", 1: "parameter-caching", 2: "execution-only"}
_FIRST_PACKAGE, _FURTHER_PACKAGES = "4", "7"
_SUBJECT = "the Edge TPU package"


@dataclass(frozen=True)
class BoundaryTensor:
    """An input or output of an executable: real = (integer - zero_point) * scale, with unsigned integers.

    The DarwiNN schema calls it a layer.
    """

    name: str
    shape: tuple[int, int, int]
    zero_point: int
    scale: float


@dataclass(frozen=True)
class Executable:
    """One program of a package; `memory_bytes` is its memory on each of the 16 tiles."""

    kind: str
    chip: str
    parameters: memoryview
    memory_bytes: int
    inputs: tuple[BoundaryTensor, ...]
    outputs: tuple[BoundaryTensor, ...]


@dataclass(frozen=True)
class Package:
    """The executables of one custom operator, and the oldest Edge TPU runtime that loads them."""

    min_runtime_version: int
    executables: tuple[Executable, ...]

    def parameters(self, *kinds: str) -> list[memoryview]:
        """The parameters of the executables of these kinds."""
        return [executable.parameters for executable in self.executables if executable.kind in kinds]


@dataclass(frozen=True)
class CompiledModel:
    """The output of the Edge TPU compiler: a graph, and the package of each custom operator by operator index."""

    graph: Graph
    packages: dict[int, Package]

    @property
    def min_runtime_version(self) -> int:
        """The oldest Edge TPU runtime that loads the whole model."""
        return max(package.min_runtime_version for package in self.packages.values())

    @property
    def cached_bytes(self) -> int:
        """Bytes of parameters that stay on the chip."""
        return self._bytes("parameter-caching")

    @property
    def streamed_bytes(self) -> int:
        """Bytes of parameters that are sent again for every inference."""
        return self._bytes("execution-only", "stand-alone")

    @property
    def cpu_operators(self) -> tuple[Operator, ...]:
        """The operators that the compiler left to the CPU."""
        return tuple(operator for operator in self.graph.operators if operator.index not in self.packages)

    @property
    def cpu_ops(self) -> dict[str, int]:
        """How many operators of each name the compiler left to the CPU."""
        return dict(Counter(operator.name for operator in self.cpu_operators))

    def to_json(self) -> dict[str, Any]:
        """The Edge TPU part of `edgetl show --json`."""
        return {
            "edgetpu": {
                "min_runtime_version": self.min_runtime_version,
                "cached_bytes": self.cached_bytes,
                "streamed_bytes": self.streamed_bytes,
            },
            "cpu_ops": self.cpu_ops,
        }

    def _bytes(self, *kinds: str) -> int:
        return sum(len(part) for package in self.packages.values() for part in package.parameters(*kinds))


def read_package(model: bytes) -> CompiledModel:
    """Read a compiled model.

    Raises:
        ConversionError: the bytes are not an intact .tflite file, or not the compiler's output.
    """
    graph = read_graph(model)
    file = Buffer(model, _SUBJECT)
    packages = {
        operator.index: _read_custom_options(file.nested(operator.custom_options, _SUBJECT))
        for operator in graph.operators
        if operator.name == CUSTOM_OPERATOR
    }
    if not packages:
        raise ConversionError(
            "the model is not compiled for the Edge TPU (it has no edgetpu-custom-op); "
            "give the compiler's output, NAME_edgetpu.tflite"
        )
    return CompiledModel(graph, packages)


def is_compiled(model: bytes) -> bool:
    """Whether the Edge TPU compiler wrote the .tflite file.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
    """
    return any(operator.name == CUSTOM_OPERATOR for operator in read_graph(model).operators)


def _read_custom_options(options: Buffer) -> Package:
    values = read_map(options)
    contents = [*values.get(_FIRST_PACKAGE, ()), *values.get(_FURTHER_PACKAGES, ())]
    if not contents:
        raise options.fault("its custom operator contains no package")
    packages = [_package(options.nested(content, _SUBJECT)) for content in contents]
    return Package(
        max(package.min_runtime_version for package in packages),
        tuple(executable for package in packages for executable in package.executables),
    )


def _package(buffer: Buffer) -> Package:
    root = buffer.root(b"DWN1")
    multi = buffer.nested(root.octets(1), _SUBJECT)
    executables = [_executable(multi.nested(content, _SUBJECT).root()) for content in multi.root().octet_vectors(0)]
    if not executables:
        raise buffer.fault("it contains no executable")
    return Package(root.number(0, INT32), tuple(executables))


def _executable(table: Table) -> Executable:
    kind = table.number(13, INT16)
    if kind not in _KINDS:
        raise table.buffer.fault(f"it contains an executable of unknown kind {kind}")
    return Executable(
        kind=_KINDS[kind],
        chip=table.text(10),
        parameters=table.octets(6),
        memory_bytes=table.number(12, INT32),
        inputs=tuple(_boundary_tensor(tensor) for tensor in table.tables(8)),
        outputs=tuple(_boundary_tensor(tensor) for tensor in table.tables(9)),
    )


def _boundary_tensor(table: Table) -> BoundaryTensor:
    numerics = table.table(5)
    return BoundaryTensor(
        name=table.text(0),
        shape=(table.number(2, INT32), table.number(3, INT32), table.number(4, INT32)),
        zero_point=0 if numerics is None else numerics.number(0, INT32),
        scale=0.0 if numerics is None else numerics.number(1, FLOAT32),
    )
