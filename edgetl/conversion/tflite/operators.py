"""Lists the operators of a .tflite file, and checks that a target's interpreter supports all of them."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import NamedTuple

from edgetl.conversion.tflite import graph
from edgetl.conversion.tflite.graph import CUSTOM_PREFIX, read_single_graph
from edgetl.errors import ConversionError
from edgetl.targets import Target

EDGETPU_OPERATOR = "edgetpu-custom-op"
"""The custom operator into which the Edge TPU compiler packs what runs on the chip."""


class Operator(NamedTuple):
    """An operator's name and the version of it that the interpreter must support."""

    name: str
    version: int


class Ceilings(NamedTuple):
    """The lowest and the highest version of each operator that an interpreter supports."""

    interpreter: str
    versions: dict[str, tuple[int, int]]


def list_operators(model: bytes) -> tuple[Operator, ...]:
    """The distinct operators that a .tflite file declares, sorted; a custom operator goes by its own name.

    Raises:
        ConversionError: the bytes are not an intact .tflite file with one subgraph.
    """
    return tuple(sorted({operator_of(code) for code in read_single_graph(model).operator_codes}))


def operator_of(code: graph.OperatorCode | graph.Operator) -> Operator:
    """Name and version of an operator of a graph."""
    return Operator(code.name.removeprefix(CUSTOM_PREFIX), code.version)


def check(model: bytes, target: Target) -> None:
    """Check that every interpreter on `target` can run `model`.

    The reference is tflite-runtime 2.14, the oldest interpreter that edgetl supports: newer ones accept whatever it
    accepts.

    Raises:
        ConversionError: an operator, which the message names, is not supported.
    """
    ceilings = load_ceilings()
    for operator in list_operators(model):
        if operator.name == EDGETPU_OPERATOR and target.edgetpu:
            continue
        lowest, highest = ceilings.versions.get(operator.name, (0, 0))
        if not lowest <= operator.version <= highest:
            raise ConversionError(_unsupported(operator, highest, target, ceilings.interpreter))


@functools.cache
def load_ceilings() -> Ceilings:
    """The operator versions that tflite-runtime 2.14 registers; the data file's "source" says how they were read."""
    content = json.loads(resources.files(__package__).joinpath("operator_versions.json").read_text())
    return Ceilings(content["interpreter"], {name: (low, high) for name, (low, high) in content["versions"].items()})


def _unsupported(operator: Operator, highest: int, target: Target, interpreter: str) -> str:
    if operator.name == EDGETPU_OPERATOR:
        return f"{target.name} has no Edge TPU, but the model is compiled for one; use the int8 file it was made from"
    if not highest:
        return (
            f"{interpreter}, the oldest interpreter on {target.name}, does not support operator {operator.name} "
            f"(version {operator.version}); replace the layer that needs it, or choose another backbone"
        )
    return (
        f"{interpreter}, the oldest interpreter on {target.name}, supports operator {operator.name} up to version "
        f"{highest}, received {operator.version}; convert with --quantize int8, or replace the layer"
    )
