"""What the Edge TPU compiler prints when it refuses a model or an operator: parsed, predicted, and with the fix."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetl.conversion.edgetpu import Compiler, analyse, compile, parse_log
from edgetl.errors import ConversionError
from tests.conversion.edgetpu.cases import mapped_model

REFUSAL = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Didn't find op for builtin opcode '{op}' version '{version}'. An older version of this builtin might be \
supported. Are you using an old TFLite binary with a newer model?

ERROR: Registration failed.

Compilation failed: Model could not be parsed
Compilation child process completed within timeout period.
"""
SHORT = """Edge TPU Compiler version 2.1.302470888
ERROR: Didn't find op for builtin opcode '{op} ' version '{version}'
ERROR: Registration failed.

Invalid model: model.tflite
Model could not be parsed
"""


def refusing(folder: Path, log: str) -> Compiler:
    path = folder / "edgetpu_compiler"
    path.write_text(f"#!{sys.executable}\nprint({log!r})\nraise SystemExit(1)\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Compiler(str(path), container=False)


@pytest.mark.parametrize("log", [REFUSAL, SHORT], ids=["16.0", "2.1"])
@pytest.mark.parametrize(("op", "version"), [("CONV_2D", 6), ("RESIZE_NEAREST_NEIGHBOR", 3), ("SOME_NEW_OP", 12)])
def test_an_unknown_version_is_read_from_the_log(log: str, op: str, version: int) -> None:
    parsed = parse_log(log.format(op=op, version=version))
    assert parsed.unknown_versions == ((op, version),)
    assert any("could not be parsed" in line for line in parsed.failures)


def test_a_line_that_only_resembles_it_is_not_read() -> None:
    for line in ("Didn't find op for builtin opcode", "Didn't find op for builtin opcode '' version ''", "version '3'"):
        assert parse_log(line).unknown_versions == ()


@pytest.mark.parametrize("log", [REFUSAL, SHORT], ids=["16.0", "2.1"])
def test_the_error_names_the_operator_its_version_and_the_fix(tmp_path: Path, log: str) -> None:
    # What the prediction lets pass, and this compiler does not know.
    compiler = refusing(tmp_path, log.format(op="RESIZE_NEAREST_NEIGHBOR", version=3))
    with pytest.raises(ConversionError) as raised:
        compile(mapped_model("RESIZE_NEAREST_NEIGHBOR", version=3), compiler=compiler)
    message = str(raised.value)
    assert "does not know version 3 of RESIZE_NEAREST_NEIGHBOR" in message
    assert "tf.compat.v1.image.resize_nearest_neighbor" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("op", "version", "fix"),
    [
        ("FULLY_CONNECTED", 12, "_experimental_disable_per_channel_quantization_for_dense_layers"),
        ("TRANSPOSE_CONV", 4, "experimental_new_converter"),
        ("QUANTIZE", 3, "int16"),
        ("CONV_2D", 6, "TensorFlow 2.8"),
        ("MUL", 7, "TensorFlow 2.8"),
        ("EXPAND_DIMS", 2, "TensorFlow 2.8"),
    ],
)
def test_a_version_that_is_too_new_is_predicted_as_a_refusal_with_its_fix(op: str, version: int, fix: str) -> None:
    analysis = analyse(mapped_model(op, version=version))
    assert analysis.refused is not None
    assert f"{op} has version {version}" in analysis.refused
    assert fix in analysis.refused_fix


@pytest.mark.parametrize("version", [5, 9])
def test_a_dense_layer_that_keeps_its_dimensions_is_left_to_the_cpu(version: int) -> None:
    analysis = analyse(mapped_model("FULLY_CONNECTED", version=version))
    (op,) = analysis.ops
    assert analysis.refused is None
    assert (op.placed, op.rule) == ("cpu", "version")
    assert op.reason.startswith("Operation version not supported")
    assert "flatten" in op.fix


@pytest.mark.parametrize("op", ["RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"])
def test_half_pixel_centres_are_mapped_by_the_last_compiler_alone(op: str) -> None:
    model = mapped_model(op, version=3)
    newest = analyse(model)
    assert newest.ops[0].placed == "tpu"
    assert any("Operation version not supported" in note and "half_pixel_centers" in note for note in newest.notes)
    for compiler in ("15.0.340273435", "14.1.317412892", "2.1.302470888"):
        (placement,) = analyse(model, compiler=compiler).ops
        assert placement.placed == "cpu"
        assert placement.reason.startswith("Operation version not supported")
        assert "tf.compat.v1.image" in placement.fix
    for compiler in ("16.0.384591198", "unknown"):
        assert analyse(model, compiler=compiler).ops[0].placed == "tpu"
    plain = analyse(mapped_model(op, version=2), compiler="15.0")
    assert plain.ops[0].placed == "tpu"
    assert plain.notes == ()


def test_check_prints_the_refusal_and_the_fix(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(mapped_model("FULLY_CONNECTED", version=12))
    command = [sys.executable, "-m", "edgetl", "check", str(tmp_path / "model.tflite"), "--fail-on", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FULLY_CONNECTED has version 12, the compiler knows up to 9" in done.stdout
    assert "_experimental_disable_per_channel_quantization_for_dense_layers = True" in done.stdout


@pytest.mark.slow
def test_the_fixes_give_the_versions_that_they_promise() -> None:
    tf = pytest.importorskip("tensorflow")
    size = (16, 16)
    assert version_of(lambda x: tf.image.resize(x, size, method="nearest")) == ("RESIZE_NEAREST_NEIGHBOR", 3)
    assert version_of(lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, size)) == ("RESIZE_NEAREST_NEIGHBOR", 2)
    assert version_of(lambda x: tf.compat.v1.image.resize_bilinear(x, size)) == ("RESIZE_BILINEAR", 2)


def version_of(function: object) -> tuple[str, int]:
    """The operator that TensorFlow converts a function to in int8, and its version."""
    import numpy as np
    import tensorflow as tf

    traced = tf.function(function, input_signature=[tf.TensorSpec((1, 8, 8, 4), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: [[np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 8, 8, 4)]]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (code,) = schema.ModelT.InitFromPackedBuf(converter.convert(), 0).operatorCodes
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return names[code.builtinCode], code.version
