"""Operators are checked against those of a target's interpreter."""

from __future__ import annotations

import json
import subprocess

import pytest

from edgetl.conversion import QUANTIZATIONS, Operator, check, list_operators
from edgetl.conversion.tflite import schema
from edgetl.conversion.tflite.operators import EDGETPU_OPERATOR, load_ceilings
from edgetl.errors import ConversionError
from edgetl.targets import list_targets, load_target


def altered(model: bytes, builtin: str, version: int, custom: str | None = None) -> bytes:
    """The model with its first operator code replaced."""
    parsed = schema.read_model(model)
    code = parsed.operatorCodes[0]
    code.builtinCode = getattr(schema.classes().BuiltinOperator, builtin)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version, code.customCode = version, custom
    return schema.write_model(parsed)


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.name)
@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_converted_models_run_on_every_target(converted, quantize, target):
    check(converted(quantize).model, target)


def test_operators_are_listed_with_their_versions(converted):
    artifact = converted("int8")
    assert artifact.operators == list_operators(artifact.model)
    assert Operator("CONV_2D", 3) in artifact.operators
    assert Operator("DEPTHWISE_CONV_2D", 3) in artifact.operators


def test_a_version_above_the_ceiling_is_refused_with_the_ceiling_and_a_fix(converted):
    model = altered(converted("int8").model, "FULLY_CONNECTED", 12)
    with pytest.raises(ConversionError) as caught:
        check(model, load_target("rpi4"))
    for part in ("FULLY_CONNECTED", "12", "up to version 10", "tflite-runtime 2.14.0", "rpi4", "--quantize int8"):
        assert part in str(caught.value)


def test_an_unknown_operator_is_refused_by_name(converted):
    with pytest.raises(ConversionError, match="does not support operator DILATE"):
        check(altered(converted("int8").model, "DILATE", 1), load_target("rpi4"))
    with pytest.raises(ConversionError, match="does not support operator FlexErf"):
        check(altered(converted("int8").model, "CUSTOM", 1, "FlexErf"), load_target("rpi4"))


def test_an_edge_tpu_model_needs_a_target_with_an_edge_tpu(converted):
    model = altered(converted("int8").model, "CUSTOM", 1, EDGETPU_OPERATOR)
    assert Operator(EDGETPU_OPERATOR, 1) in list_operators(model)
    check(model, load_target("coral"))
    with pytest.raises(ConversionError, match="rpi4 has no Edge TPU"):
        check(model, load_target("rpi4"))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4 and more", b"\x10\0\0\0TFL3" + b"\xff" * 64])
def test_a_file_that_is_not_a_model_is_refused(content):
    with pytest.raises(ConversionError, match="TFLite model"):
        list_operators(content)


def test_the_table_matches_what_tflite_runtime_registers(tflite_runtime, tmp_path):
    """A model of one operator code and no operators loads if, and only if, the interpreter has that version."""
    classes = schema.classes()
    ceilings = load_ceilings().versions
    for name, (lowest, highest) in ceilings.items():
        for version in range(lowest - 1, highest + 2):
            (tmp_path / f"{name}-{version}").write_bytes(_bare(classes, name, version))
    for name in set(schema.builtin_operators().values()) - set(ceilings) - {"CUSTOM"}:
        (tmp_path / f"{name}-1").write_bytes(_bare(classes, name, 1))
    done = subprocess.run([tflite_runtime, "-c", _PROBE, tmp_path], capture_output=True, check=True, timeout=120)
    loaded = {tuple(entry) for entry in json.loads(done.stdout)}
    assert loaded == {
        (name, version) for name, (lowest, highest) in ceilings.items() for version in range(lowest, highest + 1)
    }


_PROBE = """
import json, os, sys
from tflite_runtime.interpreter import Interpreter
loaded = []
for file in os.listdir(sys.argv[1]):
    try:
        Interpreter(os.path.join(sys.argv[1], file))
    except ValueError:
        continue
    name, version = file.rsplit("-", 1)
    loaded.append((name, int(version)))
print(json.dumps(loaded))
"""


def _bare(classes, name: str, version: int) -> bytes:
    code = classes.OperatorCodeT()
    code.builtinCode = getattr(classes.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    graph = classes.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [], [], []
    model = classes.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [classes.BufferT()]
    return schema.write_model(model)
