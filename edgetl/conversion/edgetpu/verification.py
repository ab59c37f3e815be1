"""Verifies that a compiled .tflite file was made from a given model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from edgetl.conversion.edgetpu.analysis import Limits
from edgetl.conversion.edgetpu.memory import parameter_bytes
from edgetl.conversion.edgetpu.package import BoundaryTensor, CompiledModel, Package, read_package
from edgetl.conversion.edgetpu.package_weights import ParameterIndex
from edgetl.conversion.tflite.graph import Graph, Operator, Tensor, read_graph

# The chip's integers are unsigned, so signed ones are shifted up by half their range.
_ZERO_POINT_SHIFT = {"UINT8": 0, "INT8": 128, "INT16": 32768}
_PARAMETERS_FACTOR, _PARAMETERS_SLACK = 3, 1 << 18
_MAX_REASONS, _MAX_REASON_LENGTH = 10, 300
_MAX_NAMESAKES = 16


@dataclass(frozen=True)
class Verification:
    """Whether a compiled model was made from a source, and if not, the differences."""

    match: bool
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `edgetl check --compiled --json` prints."""
        return {"match": self.match, "reasons": list(self.reasons)}


def verify(source: bytes, compiled: bytes, limits: Optional[Limits] = None) -> Verification:
    """Check that `compiled` is the Edge TPU compiler's output for `source`, and runs within the limits.

    It compares the inputs and outputs of the graph, the operators left to the CPU with their constants, the tensors
    that enter and leave the Edge TPU, the size of the parameters, and the weights of dense and depthwise layers and of
    1x1 and first convolutions. It does not compare streamed weights and those of other layers: a change in those alone
    is not detected.

    Raises:
        ConversionError: a file is not an intact .tflite file, or the second is not compiled.
    """
    pair = _Pair(read_graph(source), read_package(compiled))
    reasons = list(_runtime(pair.compiled, limits or Limits()))
    reasons += _interface(pair)
    reasons += _cpu_operators(pair)
    reasons += _boundary(pair)
    if not reasons:
        reasons += _coverage(pair)
        reasons += _package_boundary(pair)
        reasons += _parameters(pair)
        reasons += _weights(pair)
    if len(reasons) > _MAX_REASONS:
        reasons = [*reasons[:_MAX_REASONS], f"and {len(reasons) - _MAX_REASONS} more differences"]
    return Verification(not reasons, tuple(reason[:_MAX_REASON_LENGTH] for reason in reasons))


def left_to_cpu(source: bytes, compiled: bytes) -> frozenset[int]:
    """Indices of the source's operators that the compiler left to the CPU.

    Raises:
        ConversionError: a file is not an intact .tflite file, or the second is not compiled.
    """
    pair = _Pair(read_graph(source), read_package(compiled))
    return frozenset(operator.index for operator in pair.source.operators) - pair.replaced()


class _Pair:
    """A source graph and a compiled model, with their corresponding tensors and operators."""

    def __init__(self, source: Graph, compiled: CompiledModel) -> None:
        self.source = source
        self.compiled = compiled
        self.graph = compiled.graph
        self._tensors: dict[str, list[Tensor]] = defaultdict(list)
        for tensor in source.tensors:
            if len(self._tensors[tensor.name]) < _MAX_NAMESAKES:
                self._tensors[tensor.name].append(tensor)
        self._writers = {index: operator for operator in source.operators for index in operator.outputs}
        self.custom = [operator for operator in self.graph.operators if operator.index in compiled.packages]

    def source_tensor(self, tensor: Tensor) -> Optional[Tensor]:
        """The source's tensor of the same name; of several, the first that is equal in everything else."""
        named = self._tensors.get(tensor.name, [])
        return next((one for one in named if not list(_tensor_differences(one, tensor))), named[0] if named else None)

    def source_operator(self, operator: Operator) -> Optional[Operator]:
        """The source's operator that writes the same tensors; None if there is none."""
        written = [self.source_tensor(self.graph.tensors[index]) for index in operator.outputs]
        writers = {self._writers[tensor.index].index for tensor in written if tensor and tensor.index in self._writers}
        return self.source.operators[writers.pop()] if len(writers) == 1 and all(written) else None

    def replaced(self) -> set[int]:
        """Indices of the source's operators that the custom operators must replace."""
        begins = {t.index for t in map(self.source_tensor, self._crossing("inputs")) if t is not None}
        ends = [t.index for t in map(self.source_tensor, self._crossing("outputs")) if t is not None]
        return self._leading_to(ends, begins)

    def needed(self) -> set[int]:
        """Indices of the source's operators that its outputs depend on."""
        return self._leading_to(list(self.source.outputs), set())

    def _leading_to(self, from_tensors: list[int], begins: set[int]) -> set[int]:
        """Indices of the source's operators between `begins` and `from_tensors`, walking backwards."""
        found: set[int] = set()
        while from_tensors:
            index = from_tensors.pop()
            writer = self._writers.get(index)
            if index not in begins and writer is not None and writer.index not in found:
                found.add(writer.index)
                from_tensors += [read for read in writer.inputs if read >= 0]
        return found

    def _crossing(self, side: str) -> Iterator[Tensor]:
        for operator in self.custom:
            yield from (self.graph.tensors[index] for index in getattr(operator, side) if index >= 0)


def _runtime(compiled: CompiledModel, limits: Limits) -> Iterator[str]:
    needed = compiled.min_runtime_version
    if needed > limits.runtime_version:
        yield f"the package needs Edge TPU runtime {needed}, the board has {limits.runtime_version}"


def _interface(pair: _Pair) -> Iterator[str]:
    for side in ("inputs", "outputs"):
        before = [pair.source.tensors[index] for index in getattr(pair.source, side)]
        after = [pair.graph.tensors[index] for index in getattr(pair.graph, side)]
        if len(before) != len(after):
            yield f"the source has {len(before)} {side}, the compiled model {len(after)}"
            continue
        for one, other in zip(before, after):
            if one.name != other.name:
                yield f"the {side} differ: '{one.name}' in the source, '{other.name}' in the compiled model"
            else:
                yield from _tensor_differences(one, other)


def _tensor_differences(one: Tensor, other: Tensor) -> Iterator[str]:
    for what, before, after in (
        ("type", one.type, other.type),
        ("shape", one.shape, other.shape),
        ("quantization", _scales(one), _scales(other)),
    ):
        if before != after:
            yield f"tensor '{one.name}' has {what} {before} in the source, {after} in the compiled model"


def _scales(tensor: Tensor) -> tuple[tuple[float, ...], ...]:
    """Scales and zero points of a tensor, with a zero point for each scale."""
    quantization = tensor.quantization
    if quantization is None:
        return ()
    missing = len(quantization.scales) - len(quantization.zero_points)
    return quantization.scales, quantization.zero_points + (0,) * missing


def _cpu_operators(pair: _Pair) -> Iterator[str]:
    for operator in pair.compiled.cpu_operators:
        expected = pair.source_operator(operator)
        if expected is None:
            yield f"operator {operator.index} {operator.name} of the compiled model is not in the source"
        elif (expected.name, expected.version, expected.options) != (operator.name, operator.version, operator.options):
            yield f"operator {expected.index} {expected.name} has another type, version or options when compiled"
        elif bytes(expected.custom_options) != bytes(operator.custom_options):
            yield f"operator {expected.index} {expected.name} has other options in the compiled model"
        else:
            yield from _constant_differences(pair, expected, operator)


def _constant_differences(pair: _Pair, expected: Operator, operator: Operator) -> Iterator[str]:
    if len(expected.inputs) != len(operator.inputs):
        yield f"operator {expected.index} {expected.name} has another number of inputs in the compiled model"
        return
    for position in range(len(expected.inputs)):
        before, after = pair.source.input(expected, position), pair.graph.input(operator, position)
        if before is None or after is None:
            same = before is after
        elif before.data is None or after.data is None:
            same = before.data is after.data and before.name == after.name
        else:
            same = before.type == after.type and before.shape == after.shape and bytes(before.data) == bytes(after.data)
        if not same:
            yield f"input {position} of operator {expected.index} {expected.name} differs in the compiled model"


def _boundary(pair: _Pair) -> Iterator[str]:
    for operator in pair.custom:
        for index in (*operator.inputs, *operator.outputs):
            if index < 0:
                continue
            tensor = pair.graph.tensors[index]
            expected = pair.source_tensor(tensor)
            if expected is None:
                yield f"tensor '{tensor.name}' at the Edge TPU is not in the source"
            else:
                yield from _tensor_differences(expected, tensor)


def _coverage(pair: _Pair) -> Iterator[str]:
    """Operators of the source that are on neither side."""
    on_cpu = {
        expected.index for expected in map(pair.source_operator, pair.compiled.cpu_operators) if expected is not None
    }
    missing = pair.needed() - on_cpu - pair.replaced()
    for index in sorted(missing):
        yield f"operator {index} {pair.source.operators[index].name} of the source is not in the compiled model"


def _package_boundary(pair: _Pair) -> Iterator[str]:
    """Differences in what the package itself states about the tensors that enter and leave it."""
    for operator in pair.custom:
        stated = {boundary.name: boundary for boundary in _boundary_tensors(pair.compiled.packages[operator.index])}
        for index in (*operator.inputs, *operator.outputs):
            tensor = pair.graph.tensors[index]
            boundary = stated.get(tensor.name)
            quantization = tensor.quantization
            if boundary is None or quantization is None or tensor.type not in _ZERO_POINT_SHIFT:
                continue
            zero_point = (*quantization.zero_points, 0)[0] + _ZERO_POINT_SHIFT[tensor.type]
            expected = (tensor.elements, zero_point, quantization.scales[0])
            if (math.prod(boundary.shape), boundary.zero_point, boundary.scale) != expected:
                yield f"the package has tensor '{tensor.name}' with another size or quantization"


def _boundary_tensors(package: Package) -> Iterator[BoundaryTensor]:
    for executable in package.executables:
        yield from executable.inputs
        yield from executable.outputs


def _parameters(pair: _Pair) -> Iterator[str]:
    stored = pair.compiled.cached_bytes + pair.compiled.streamed_bytes
    replaced = [pair.source.operators[index] for index in pair.replaced()]
    least = sum({bytes(w.data): len(w.data) for w in _mapped_weights(pair, replaced) if w.data}.values())
    estimate = sum(parameter_bytes(pair.source, operator) for operator in replaced)
    if stored < least:
        yield f"the package has {stored} bytes of parameters, the source's layers need at least {least}"
    elif stored > _PARAMETERS_FACTOR * estimate + _PARAMETERS_SLACK:
        yield f"the package has {stored} bytes of parameters, the source's layers need about {estimate}"


def _mapped_weights(pair: _Pair, operators: list[Operator]) -> Iterator[Tensor]:
    for operator in operators:
        weights = pair.source.input(operator, 1)
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and weights is not None:
            yield weights


def _weights(pair: _Pair) -> Iterator[str]:
    kinds = ("parameter-caching", "execution-only", "stand-alone")
    packages = pair.compiled.packages.values()
    index = ParameterIndex(part for package in packages for part in package.parameters(*kinds))
    replaced = [pair.source.operators[number] for number in sorted(pair.replaced())]
    missing = [operator for operator in replaced if index.is_missing(pair.source, operator)]
    # Streamed parameters may be stored in another order, so layers small enough to be among them prove nothing.
    if sum(parameter_bytes(pair.source, operator) for operator in missing) > pair.compiled.streamed_bytes:
        for operator in missing:
            yield f"the weights of operator {operator.index} {operator.name} are not in the package"
