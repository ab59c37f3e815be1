"""Hides the foretelling of what the Edge TPU compiler will do with a .tflite; `edgetl check` and build call it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Optional

from edgetl.conversion.edgetpu.memory import Parameters, estimate_parameters, peak_activation_bytes
from edgetl.conversion.edgetpu.package import CUSTOM_OPERATOR
from edgetl.conversion.edgetpu.partition import first_subset
from edgetl.conversion.edgetpu.rules import Rules, Verdict, load_rules
from edgetl.conversion.tflite.graph import Graph, read_graph
from edgetl.targets import Target


@dataclass(frozen=True)
class Limits:
    """What a board's Edge TPU holds and knows; the defaults are those of the one chip there is."""

    runtime_version: int = 14

    @classmethod
    def of(cls, target: Target) -> Limits:
        """The limits of a board."""
        return cls() if target.min_edgetpu_runtime is None else cls(target.min_edgetpu_runtime)


@dataclass(frozen=True)
class Placement:
    """Where one operator runs: "tpu" or "cpu", why in the compiler's words and ours, and what would mend it."""

    index: int
    op: str
    placed: str
    reason: str
    fix: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Analysis:
    """What the compiler is expected to do; nothing of it was measured.

    `refused` is why the compiler would refuse the whole model, or None. `activation_bytes` is the most that
    is live at once. `min_runtime_version` is the oldest Edge TPU runtime that could run the mapped operators
    (the compiler's own default is the newest, 14). `notes` are warnings that place no operator.
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
        """What the chip holds of activations at once; layers beyond that are cut into strips."""
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


def analyse(model: bytes, limits: Optional[Limits] = None) -> Analysis:
    """What the Edge TPU compiler will do with a .tflite file.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
    """
    return analyse_graph(read_graph(model), limits or Limits())


def analyse_graph(graph: Graph, limits: Limits) -> Analysis:
    """The same for a graph that was read already."""
    rules = load_rules()
    obstacles = [rules.obstacle(graph, operator) for operator in graph.operators]
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
    index: int, name: str, obstacle: Optional[Verdict], mapped: bool, refusal: Optional[Verdict], rules: Rules
) -> Placement:
    if mapped:
        return Placement(index, name, "tpu", rules.statuses["mapped"])
    verdict = obstacle or refusal or rules.status_of("later_subgraph")
    return Placement(index, name, "cpu", verdict.reason, verdict.fix, verdict.rule)


def _runtime(graph: Graph, mapped: Collection[int], rules: Rules) -> int:
    needed = rules.chip["oldest_runtime_version"]
    for operator in graph.operators:
        if operator.index in mapped:
            needed = max(needed, rules.runtime(operator.name))
    if any(graph.tensors[index].type == "INT8" for index in (*graph.inputs, *graph.outputs)):
        needed = max(needed, rules.chip["int8_runtime_version"])
    return needed


def _notes(graph: Graph, parameters: Parameters, peak: int, runtime: int, rules: Rules, limits: Limits) -> list[str]:
    notes = []
    if any(operator.name == CUSTOM_OPERATOR for operator in graph.operators):
        notes.append("this file was compiled already; check the one that it was compiled from, or see it: edgetl show")
    if graph.subgraphs > 1:
        notes.append(f"the file has {graph.subgraphs} subgraphs; only the first is compiled")
    if any(-1 in graph.tensors[index].signature for index in graph.inputs):
        notes.append("an input may have any batch size; it is compiled for the one that its shape says")
    if parameters.streamed:
        notes.append(f"{parameters.streamed} bytes of parameters do not stay on the chip: every run is slower")
    if peak > rules.chip["activation_bytes"]:
        held = rules.chip["activation_bytes"]
        notes.append(
            f"{peak} bytes of activations at once, the chip holds {held}: the compiler has to cut layers into "
            f"strips, and may refuse with '{rules.statuses['activations']}'"
        )
    if runtime > limits.runtime_version:
        notes.append(f"needs Edge TPU runtime {runtime}, the board has {limits.runtime_version}")
    return notes
