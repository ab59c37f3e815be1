"""Which operators a .tflite file uses, and whether a target can run them; `pipeline` checks every model."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any, NamedTuple

from edgetl.conversion.tflite import schema
from edgetl.errors import ConversionError
from edgetl.targets import Target

EDGETPU_OPERATOR = "edgetpu-custom-op"


class Operator(NamedTuple):
    """An operator of the file and the version of it that the interpreter must know."""

    name: str
    version: int


class Ceilings(NamedTuple):
    """The lowest and the highest version that an interpreter has of each operator."""

    interpreter: str
    versions: dict[str, tuple[int, int]]


def list_operators(model: bytes) -> tuple[Operator, ...]:
    """The distinct operators of a .tflite file, in order; a custom one has its own name."""
    parsed = schema.read_model(model)
    return tuple(sorted({operator_of(code) for code in parsed.operatorCodes}))


def operator_of(code: Any) -> Operator:
    """The operator that an OperatorCode of the schema stands for."""
    names = schema.enum_names(schema.classes().BuiltinOperator)
    number = schema.operator_code(code)
    builtin = names.get(number, f"builtin {number}")
    return Operator(schema.text(code.customCode) if builtin == "CUSTOM" else builtin, code.version)


def check(model: bytes, target: Target) -> None:
    """Raises ConversionError, naming the operator, where an interpreter on `target` would refuse `model`.

    The floor is tflite-runtime 2.14, the oldest interpreter that edgetl supports: what it takes, all take.
    """
    ceilings = load_ceilings()
    for operator in list_operators(model):
        if operator.name == EDGETPU_OPERATOR and target.edgetpu:
            continue
        lowest, highest = ceilings.versions.get(operator.name, (0, 0))
        if not lowest <= operator.version <= highest:
            raise ConversionError(_refusal(operator, highest, target, ceilings.interpreter))


@functools.cache
def load_ceilings() -> Ceilings:
    """What tflite-runtime 2.14 registers, as read out of that package itself (see the file's "source")."""
    content = json.loads(resources.files(__package__).joinpath("operator_versions.json").read_text())
    return Ceilings(content["interpreter"], {name: (low, high) for name, (low, high) in content["versions"].items()})


def _refusal(operator: Operator, highest: int, target: Target, interpreter: str) -> str:
    if operator.name == EDGETPU_OPERATOR:
        return f"{target.name} has no Edge TPU, and the model is compiled for one; use the int8 file before that"
    if not highest:
        return (
            f"{interpreter}, which {target.name} must be able to run, does not know operator {operator.name} "
            f"(version {operator.version}); replace the layer that needs it, or choose another backbone"
        )
    return (
        f"{interpreter}, which {target.name} must be able to run, takes operator {operator.name} up to version "
        f"{highest}, received {operator.version}; convert with --quantize int8, or replace the layer"
    )
