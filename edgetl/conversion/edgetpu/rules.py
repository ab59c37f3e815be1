"""Applies the Edge TPU compiler's limits to the operators of a model.

The limits are data (rules.toml). This module defines the predicates that the data may use, and knows nothing about any
operator. A predicate returns the tensor that violates it, so that the reason can name it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Optional

import numpy as np

from edgetl.conversion.tflite.graph import Graph, Operator, Tensor
from edgetl.toml_file import parse_toml


@dataclass(frozen=True)
class Obstacle:
    """Why an operator, or the whole model, stays on the CPU.

    `rule` is the id of the condition in rules.toml, `reason` the compiler's own wording followed by ours, `fix` what to
    change.
    """

    rule: str
    reason: str
    fix: str


@dataclass(frozen=True)
class _Violation:
    """A violated condition, and the tensor that violates it if the condition is about one."""

    tensor: Optional[Tensor] = None


_Predicate = Callable[[Graph, Operator, Mapping[str, Any]], Optional[_Violation]]


NEWEST = "16.0"
"""The last version of the compiler."""


class Rules:
    """The rules of rules.toml, applied to operators and models."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = table
        self.chip: Mapping[str, Any] = table["chip"]
        self.statuses: Mapping[str, str] = table["statuses"]

    def obstacle(self, graph: Graph, operator: Operator, compiler: str = NEWEST) -> Optional[Obstacle]:
        """Why a compiler of this version leaves the operator on the CPU, wherever it is; None if it does not."""
        entry = self.table["operators"].get(operator.name)
        if entry is None:
            return self._unsupported(operator)
        unmapped = self._unmapped_version(operator, compiler)
        if unmapped is not None:
            return unmapped
        conditions = (*self.table["every"], *entry.get("conditions", ()))
        for condition in sorted(conditions, key=lambda condition: not condition.get("first", False)):
            violation = _PREDICATES[condition["predicate"]](graph, operator, condition)
            if violation is not None:
                return self._describe(condition, violation)
        return None

    def refusal(self, graph: Graph) -> Optional[Obstacle]:
        """Why the compiler refuses the model before it looks at single operators; None if it does not."""
        for operator in graph.operators:
            obstacle = self._version_refusal(operator) or self._dynamic_refusal(graph, operator)
            if obstacle is not None:
                return obstacle
        if not any(_is_quantized(graph, operator) for operator in graph.operators):
            return self._whole_model("not_quantized", "no operator computes on 8-bit integers")
        return None

    def status_of(self, name: str) -> Obstacle:
        """One of the compiler's statuses, without a further reason."""
        return self._whole_model(name)

    def refused_activations(self, size_bytes: int) -> Obstacle:
        """The refusal of a model whose peak activations cannot be cut to fit the chip."""
        capacity = self.chip["activation_bytes"]
        return self._whole_model("activations", f"{size_bytes} bytes at once, the chip has {capacity}")

    def version_fix(self, name: str) -> str:
        """How to get an older version of an operator from the converter."""
        return str(self.table["version_fixes"].get(name, self.table["fixes"]["version"]))

    def older_compilers(self, operator: Operator) -> str:
        """A note if only the newest compiler maps the operator's version, else an empty text."""
        limit = self.table["mapped_versions"].get(operator.name, {})
        if "before" not in limit or operator.version <= limit["max"]:
            return ""
        return (
            f"compilers before {limit['before']} leave {operator.name} version {operator.version} on the CPU "
            f"({self.statuses['version']}); for those, {self.version_fix(operator.name)}"
        )

    def runtime(self, name: str) -> int:
        """The oldest Edge TPU runtime that runs an operator of this name."""
        return int(self.table["operators"][name]["runtime"])

    def _unsupported(self, operator: Operator) -> Obstacle:
        entry = self.table["unsupported"].get(operator.name.partition(":")[0], {})
        status = self.statuses[entry.get("status", "unsupported")]
        return Obstacle(
            "unsupported", f"{status}: {operator.name}", entry.get("fix", self.table["fixes"]["unsupported"])
        )

    def _unmapped_version(self, operator: Operator, compiler: str) -> Optional[Obstacle]:
        limit = self.table["mapped_versions"].get(operator.name)
        if limit is None or operator.version <= limit["max"]:
            return None
        if "before" in limit and _release(compiler) >= _release(limit["before"]):
            return None
        why = f"{self.statuses['version']}: {operator.name} has version {operator.version}, up to {limit['max']} maps"
        return Obstacle("version", why, self.version_fix(operator.name))

    def _version_refusal(self, operator: Operator) -> Optional[Obstacle]:
        newest = self.table["builtin_code"]["max"]
        if operator.code > newest:
            return self._whole_model(
                "code_range",
                f"operator {operator.index} {operator.name} has code {operator.code}, the compiler knows {newest}",
                "version",
            )
        ceiling = self.table["versions"].get(operator.name)
        if ceiling is not None and operator.version > ceiling["max"]:
            what = f"operator {operator.index} {operator.name} has version {operator.version}"
            refusal = self._whole_model("not_parsed", f"{what}, the compiler knows up to {ceiling['max']}")
            return replace(refusal, fix=self.version_fix(operator.name))
        return None

    def _dynamic_refusal(self, graph: Graph, operator: Operator) -> Optional[Obstacle]:
        for position in self.table["shape_inputs"].get(operator.name, ()):
            tensor = graph.input(operator, position)
            if tensor is not None and not tensor.constant and tensor.elements:
                what = f"operator {operator.index} {operator.name} takes its shape from {_tensor_name(tensor)}"
                return self._whole_model("dynamic", f"{what}, which is computed while the model runs")
        return None

    def _whole_model(self, status: str, why: str = "", fix: str = "") -> Obstacle:
        reason = self.statuses[status]
        return Obstacle(status, f"{reason}: {why}" if why else reason, self.table["fixes"].get(fix or status, ""))

    def _describe(self, condition: Mapping[str, Any], violation: _Violation) -> Obstacle:
        why = condition["why"]
        if violation.tensor is not None:
            shape = "x".join(map(str, violation.tensor.shape))
            why = why.format(tensor=_tensor_name(violation.tensor), shape=shape, type=violation.tensor.type)
        return Obstacle(condition["id"], f"{self.statuses[condition['status']]}: {why}", condition["fix"])


@functools.cache
def load_rules() -> Rules:
    """The rules of compiler 16.0, the last version."""
    text = resources.files(__package__).joinpath("rules.toml").read_text(encoding="utf-8")
    return Rules(parse_toml(text))


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version; an unknown version counts as the newest."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    return numbers or _release(NEWEST)


def _tensor_name(tensor: Tensor) -> str:
    return f"tensor {tensor.index}"


def _is_quantized(graph: Graph, operator: Operator) -> bool:
    """Whether the operator writes quantized 8-bit integers."""
    written = (graph.tensors[index] for index in operator.outputs)
    return any(tensor.type in ("INT8", "UINT8") and tensor.quantization is not None for tensor in written)


def _named_tensor(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[Tensor]:
    """The tensor that a condition is about: an input or an output, by position."""
    if "output" in condition:
        return graph.output(operator, condition["output"])
    return graph.input(operator, condition["input"])


def _numbers(tensor: Optional[Tensor]) -> Optional[np.ndarray]:
    return tensor.values() if tensor is not None and tensor.constant else None


def _batch_axis(tensor: Tensor) -> Optional[int]:
    """The batch axis: the outermost of four or more, or a leading 1."""
    return 0 if len(tensor.shape) > 3 or (len(tensor.shape) > 1 and tensor.shape[0] == 1) else None


def _axes(graph: Graph, operator: Operator, condition: Mapping[str, Any], rank: int) -> Optional[set[int]]:
    """The axes that an operator works along, counted from 0; None if they are not constant."""
    if "axis_option" in condition:
        named = [operator.options[condition["axis_option"]]]
    else:
        numbers = _numbers(graph.input(operator, condition["axis_input"]))
        if numbers is None:
            return None
        named = numbers.reshape(-1).tolist()
    return {axis + rank if axis < 0 else axis for axis in named}


def _static_shapes(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    violating = (tensor for tensor in graph.activations(operator) if not tensor.elements)
    return next(map(_Violation, violating), None)


def _types(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    inputs = (graph.tensors[index] for index in operator.inputs if index >= 0)
    for tensor in (*inputs, *(graph.tensors[index] for index in operator.outputs)):
        kind = "constants" if tensor.constant else "variables" if tensor.variable else "activations"
        if tensor.type not in condition[kind]:
            return _Violation(tensor)
    return None


def _inner_dimensions(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    for tensor in graph.activations(operator):
        outer = max(0, len(tensor.shape) - condition["count"])
        if any(size > 1 for size in tensor.shape[:outer]):
            return _Violation(tensor)
    return None


def _dimensions(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = _named_tensor(graph, operator, condition)
    if tensor is None:
        return None
    outer = tensor.shape[: -condition["count"]]
    enough = len(tensor.shape) >= condition["count"]
    return None if enough and all(size == 1 for size in outer) else _Violation(tensor)


def _max_rank(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    violating = (tensor for tensor in graph.activations(operator) if len(tensor.shape) > condition["limit"])
    return next(map(_Violation, violating), None)


def _vector(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = _named_tensor(graph, operator, condition)
    violating = tensor is not None and any(size != 1 for size in tensor.shape[:-1])
    return _Violation(tensor) if violating else None


def _max_elements(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = _named_tensor(graph, operator, condition)
    return _Violation(tensor) if tensor is not None and tensor.elements > condition["limit"] else None


def _max_positions(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = graph.input(operator, 0)
    if tensor is None or not tensor.shape:
        return None
    return _Violation(tensor) if tensor.elements // tensor.shape[-1] > condition["limit"] else None


def _option_in(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    return None if operator.options[condition["option"]] in condition["allowed"] else _Violation()


def _equal_dilation(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    weights = graph.input(operator, 1)
    if weights is None or len(weights.shape) != 4:
        return None
    _, height, width, _ = weights.shape
    violating = height > 1 and width > 1 and operator.options["dilation_h"] != operator.options["dilation_w"]
    return _Violation() if violating else None


def _constant_inputs(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensors = (graph.input(operator, position) for position in condition["inputs"])
    violating = (tensor for tensor in tensors if tensor is not None and not tensor.constant)
    return next(map(_Violation, violating), None)


def _constant_values(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = graph.input(operator, condition["input"])
    numbers = _numbers(tensor)
    return None if numbers is None or (numbers == condition["value"]).all() else _Violation(tensor)


def _constant_pads_with_zeros(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
    constants = [tensor for tensor in inputs if tensor.constant]
    if constants and len(inputs) != condition["inputs"]:
        return _Violation(constants[0])
    for tensor in constants:
        zero = tensor.quantization.zero_points[0] if tensor.quantization and tensor.quantization.zero_points else 0
        if (tensor.values() != zero).any():
            return _Violation(tensor)
    return None


def _keeps_batch(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = graph.input(operator, condition.get("of_input", 0))
    if tensor is None:
        return None
    axes, batch = _axes(graph, operator, condition, len(tensor.shape)), _batch_axis(tensor)
    return _Violation(tensor) if axes and batch is not None and batch in axes else None


def _depth_multiple(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor = graph.input(operator, 0)
    if tensor is None or not tensor.shape:
        return None
    axes = _axes(graph, operator, condition, len(tensor.shape)) or set()
    violating = len(tensor.shape) - 1 in axes and tensor.shape[-1] % condition["multiple"]
    return _Violation(tensor) if violating else None


def _unpadded_batch(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    tensor, padding = graph.input(operator, 0), _numbers(graph.input(operator, condition["padding_input"]))
    if tensor is None or padding is None or _batch_axis(tensor) is None:
        return None
    return _Violation(tensor) if padding.reshape(-1)[:2].any() else None


def _max_enlargement(graph: Graph, operator: Operator, condition: Mapping[str, Any]) -> Optional[_Violation]:
    source, result = graph.input(operator, 0), graph.output(operator)
    if source is None or result is None or len(source.shape) < 3 or len(result.shape) < 3:
        return None
    for before, after in zip(source.shape[-3:-1], result.shape[-3:-1]):
        if after > before and (after > condition["ratio"] * before or after > condition["side"]):
            return _Violation(source)
    return None


_PREDICATES: Mapping[str, _Predicate] = {
    "static_shapes": _static_shapes,
    "types": _types,
    "inner_dimensions": _inner_dimensions,
    "dimensions": _dimensions,
    "max_rank": _max_rank,
    "vector": _vector,
    "max_elements": _max_elements,
    "max_positions": _max_positions,
    "option_in": _option_in,
    "equal_dilation": _equal_dilation,
    "constant_inputs": _constant_inputs,
    "constant_values": _constant_values,
    "constant_pads_with_zeros": _constant_pads_with_zeros,
    "keeps_batch": _keeps_batch,
    "depth_multiple": _depth_multiple,
    "unpadded_batch": _unpadded_batch,
    "max_enlargement": _max_enlargement,
}
