"""Predicts what the Edge TPU compiler will do with a .tflite file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Optional

from edgetl.conversion.edgetpu.memory import Parameters, estimate_parameters, peak_activation_bytes
from edgetl.conversion.edgetpu.package import CUSTOM_OPERATOR
from edgetl.conversion.edgetpu.partition import first_subset
from edgetl.conversion.edgetpu.rules import NEWEST, Obstacle, Rules, load_rules
from edgetl.conversion.tflite.graph import Graph, read_graph
from edgetl.targets import Target


@dataclass(frozen=True)
class Limits:
    """The limits of a board's Edge TPU: the newest runtime that it has."""

    runtime_version: int = 14

    @classmethod
    def of(cls, target: Target) -> Limits:
        """The limits of a board."""
        return cls() if target.min_edgetpu_runtime is None else cls(target.min_edgetpu_runtime)


@dataclass(frozen=True)
class Placement:
    """Where one operator runs, "tpu" or "cpu", why, and what to change if it is the CPU.

    `reason` is the compiler's wording followed by ours. `rule` is the id of the condition in rules.toml.
    """

    index: int
    op: str
    placed: str
    reason: str
    fix: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Analysis:
    """A prediction of what the compiler will do; nothing in it is measured.

    Attributes:
        ops: where each operator runs.
        refused: why the compiler would refuse the whole model, or None.
        refused_fix: what to change in that case.
        parameter_bytes: parameters on the chip, and parameters sent for every inference.
        activation_bytes: the largest number of activation bytes live at once.
        min_runtime_version: the oldest Edge TPU runtime that can run the mapped operators. The compiler itself targets
            the newest, 14, by default.
        notes: warnings that do not affect where an operator runs.
    """

    ops: tuple[Placement, ...]
    refused: Optional[str]
    refused_fix: str
    parameter_bytes: Parameters
    activation_bytes: int
    min_runtime_version: int
    notes: tuple[str, ...]

    @property
    def cpu_ops(self) -> tuple[Placement, ...]:
        """The operators that stay on the CPU."""
        return tuple(op for op in self.ops if op.placed == "cpu")

    @property
    def activation_limit_bytes(self) -> int:
        """The chip's memory for activations; larger layers are cut into strips."""
        return int(load_rules().chip["activation_bytes"])

    def to_json(self) -> dict[str, Any]:
        """The object that `edgetl check --json` prints."""
        return {
            "ops": [{"index": op.index, "op": op.op, "placed": op.placed, "reason": op.reason} for op in self.ops],
            "refused": self.refused,
            "parameter_bytes": {
                "cached": self.parameter_bytes.cached,
                "streamed": self.parameter_bytes.streamed,
            },
            "activation_bytes": self.activation_bytes,
        }


def analyse(model: bytes, limits: Optional[Limits] = None, compiler: str = NEWEST) -> Analysis:
    """Predict what the Edge TPU compiler, by default its last version, will do with a .tflite file.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
    """
    return analyse_graph(read_graph(model), limits or Limits(), compiler)


def analyse_graph(graph: Graph, limits: Limits, compiler: str = NEWEST) -> Analysis:
    """As `analyse`, for a graph that is already read."""
    rules = load_rules()
    obstacles = [rules.obstacle(graph, operator, compiler) for operator in graph.operators]
    mapped = first_subset(graph, [obstacle is None for obstacle in obstacles])
    peak = peak_activation_bytes(graph, mapped)
    refusal = rules.refusal(graph)
    if refusal is None and peak > rules.chip["refused_activation_bytes"]:
        refusal = rules.refused_activations(peak)
    placed: Collection[int] = mapped if refusal is None else ()
    parameters = estimate_parameters(graph, placed, rules.chip)
    runtime = _runtime(graph, placed, rules)
    return Analysis(
        ops=tuple(
            _placement(operator.index, operator.name, obstacle, operator.index in placed, refusal, rules)
            for operator, obstacle in zip(graph.operators, obstacles)
        ),
        refused=None if refusal is None else refusal.reason,
        refused_fix="" if refusal is None else refusal.fix,
        parameter_bytes=parameters,
        activation_bytes=peak,
        min_runtime_version=runtime,
        notes=tuple(_notes(graph, parameters, peak, runtime, rules, limits)),
    )


def _placement(
    index: int, name: str, obstacle: Optional[Obstacle], mapped: bool, refusal: Optional[Obstacle], rules: Rules
) -> Placement:
    if mapped:
        return Placement(index, name, "tpu", rules.statuses["mapped"])
    cause = obstacle or refusal or rules.status_of("later_subgraph")
    return Placement(index, name, "cpu", cause.reason, cause.fix, cause.rule)


def _runtime(graph: Graph, mapped: Collection[int], rules: Rules) -> int:
    needed: int = rules.chip["oldest_runtime_version"]
    for operator in graph.operators:
        if operator.index in mapped:
            needed = max(needed, rules.runtime(operator.name))
    if any(graph.tensors[index].type == "INT8" for index in (*graph.inputs, *graph.outputs)):
        needed = max(needed, rules.chip["int8_runtime_version"])
    return needed


def _notes(graph: Graph, parameters: Parameters, peak: int, runtime: int, rules: Rules, limits: Limits) -> list[str]:
    notes = []
    if any(operator.name == CUSTOM_OPERATOR for operator in graph.operators):
        notes.append(
            "this file is already compiled; check the file that it was compiled from, or inspect it: edgetl show"
        )
    notes += dict.fromkeys(filter(None, map(rules.older_compilers, graph.operators)))
    if graph.subgraphs > 1:
        notes.append(f"the file has {graph.subgraphs} subgraphs; only the first will be compiled")
    if any(-1 in graph.tensors[index].signature for index in graph.inputs):
        notes.append("an input accepts any batch size; the model will be compiled for the batch size of its shape")
    if parameters.streamed:
        notes.append(
            f"{parameters.streamed} bytes of parameters do not stay on the chip: every inference sends them again"
        )
    if peak > rules.chip["activation_bytes"]:
        capacity = rules.chip["activation_bytes"]
        notes.append(
            f"{peak} bytes of activations at once, the chip has {capacity}: the compiler must cut layers into "
            f"strips, and may fail with '{rules.statuses['activations']}'"
        )
    if runtime > limits.runtime_version:
        notes.append(f"needs Edge TPU runtime {runtime}, the board has {limits.runtime_version}")
    return notes
