"""The compiler's log as a value, and the compile step around a program that stands in for Google's.

The real compiler is not free to install; the stand-in prints what the real one printed and writes what the
real one wrote.
"""

from __future__ import annotations

import dataclasses
import stat
import sys
import time
from pathlib import Path

import pytest

from edgetl.conversion.edgetpu import (
    CompileOptions,
    Compiler,
    analyse,
    compile,
    compiler,
    find_compiler,
    make_compiler,
    parse_log,
)
from edgetl.errors import ConversionError, OptionError
from tests.conversion.edgetpu.cases import mapped_model

LOG = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1379 ms.

Input model: model.tflite
Input size: 4.41MiB
Output model: model_edgetpu.tflite
Output size: 5.49MiB
On-chip memory used for caching model parameters: 1.92MiB
On-chip memory remaining for caching model parameters: 1.75KiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 72
Operation log: model_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model
Number of operations that will run on Edge TPU: 64
Number of operations that will run on CPU: 8

Operator                       Count      Status

CONV_2D                        36         Mapped to Edge TPU
CONV_2D                        2          More than one subgraph is not supported
RESIZE_BILINEAR                3          Image-interpolation layer won't run precisely enough on Edge TPU
ARG_MAX                        1          Operation not supported
Compilation child process completed within timeout period.
Compilation succeeded!
"""


def program(folder, body: str) -> Compiler:
    path = folder / "edgetpu_compiler"
    path.write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Compiler(str(path), container=False)


def writing(folder, content: bytes, log: str = LOG) -> Compiler:
    (folder / "result").write_bytes(content)
    body = f"""
flags = dict(zip(sys.argv[1:], sys.argv[2:]))
out = pathlib.Path(flags["--out_dir"])
source = pathlib.Path(sys.argv[-1])
(out / (source.stem + "_edgetpu.tflite")).write_bytes(pathlib.Path({str(folder / "result")!r}).read_bytes())
print({log!r})"""
    return program(folder, body)


def test_the_log_is_parsed():
    log = parse_log(LOG)
    assert log.version == "16.0.384591198"
    assert [(row.op, row.count, row.mapped) for row in log.rows] == [
        ("CONV_2D", 36, True),
        ("CONV_2D", 2, False),
        ("RESIZE_BILINEAR", 3, False),
        ("ARG_MAX", 1, False),
    ]
    assert (log.cached_bytes, log.remaining_bytes, log.streamed_bytes) == (2013266, 1792, 0)
    assert log.failures == ()


@pytest.mark.parametrize(
    "line",
    [
        "Compilation failed: Compilation failed due to large activation tensors in model.",
        "Model not quantized",
        "Internal compiler error. Aborting!",
        "ERROR: Op builtin_code out of range: 150. Are you using old TFLite binary with newer model?",
    ],
)
def test_the_line_with_the_failure_is_found(line):
    assert parse_log(f"Edge TPU Compiler version 16.0.384591198\n{line}\nsomething else\n").failures == (line,)


def test_a_log_of_another_program_is_ignored():
    log = parse_log("hello\n" * 100)
    assert (log.version, log.rows, log.cached_bytes) == ("unknown", (), None)


def test_the_compiler_output_is_verified(pair, tmp_path):
    one = pair("deeplabv3_mnv2_dm05_pascal_quant")
    result = compile(one.source, compiler=writing(tmp_path, one.compiled))
    assert result.model == one.compiled
    assert result.differences == ()
    assert result.compiled.cached_bytes == one.facts["cached_parameter_bytes"]
    assert result.log.version == "16.0.384591198"


def test_a_compiler_on_the_path_is_found(pair, tmp_path, monkeypatch):
    one = pair("split_concat")
    writing(tmp_path, one.compiled)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_compiler() == Compiler(str(tmp_path / "edgetpu_compiler"), container=False)
    assert compile(one.source).model == one.compiled


def test_the_output_for_another_model_is_refused(pair, tmp_path):
    other = writing(tmp_path, pair("split_concat").compiled)
    with pytest.raises(ConversionError, match="is not this model"):
        compile(pair("keras_lstm_mnist_ptq").source, compiler=other)


def test_a_difference_from_the_prediction_is_reported(pair, tmp_path, monkeypatch):
    one = pair("deeplabv3_mnv2_dm05_pascal_quant")
    predicted = analyse(one.source)
    ops = tuple(dataclasses.replace(op, placed="tpu") if op.index == 67 else op for op in predicted.ops)
    monkeypatch.setattr(compiler, "analyse", lambda *_: dataclasses.replace(predicted, ops=ops))
    (difference,) = compile(one.source, compiler=writing(tmp_path, one.compiled)).differences
    assert difference == (
        "operator 67 CONV_2D: predicted on the tpu, compiled for the cpu (More than one subgraph is not supported)"
    )


def test_a_failure_is_reported_in_the_compilers_words(tmp_path):
    compiler = program(tmp_path, "print('Edge TPU Compiler version 16.0'); print('Model not quantized'); sys.exit(1)")
    with pytest.raises(ConversionError, match=r"compiler 16\.0 failed: Model not quantized"):
        compile(mapped_model("CONV_2D"), compiler=compiler)


def test_a_silent_failure_is_reported(tmp_path):
    with pytest.raises(ConversionError, match="printed nothing"):
        compile(mapped_model("CONV_2D"), compiler=program(tmp_path, "sys.exit(3)"))


def test_a_compiler_that_takes_too_long_is_killed(tmp_path):
    compiler = program(tmp_path, "time.sleep(60)")
    begin = time.monotonic()
    with pytest.raises(ConversionError, match="more than 1 s"):
        compile(mapped_model("CONV_2D"), CompileOptions(timeout_s=1), compiler=compiler)
    assert time.monotonic() - begin < 10


def test_a_model_that_would_be_refused_never_reaches_the_compiler(tmp_path):
    compiler = program(tmp_path, f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(ConversionError, match="would refuse the model: Model could not be parsed"):
        compile(mapped_model("CONV_2D", version=6), compiler=compiler)
    assert not (tmp_path / "ran").exists()


def test_without_a_compiler_and_a_container_engine_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    with pytest.raises(ConversionError, match="neither Docker nor Podman"):
        compile(mapped_model("CONV_2D"))


def engine(folder, body: str) -> None:
    """A `docker` that keeps its arguments in the file `asked`, a line a call, and then does as `body` says."""
    path = folder / "docker"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder / "asked"}\n{body}\n')
    path.chmod(0o755)


def test_a_missing_image_is_built_from_the_recipe_in_edgetl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    engine(tmp_path, f'case "$1" in build) : > {tmp_path}/made;; image) test -e {tmp_path}/made;; esac')
    assert find_compiler() is None
    made = make_compiler()
    assert made == find_compiler() == Compiler(str(tmp_path / "docker"), container=True)
    (build,) = [line.split() for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("build")]
    assert build[:3] == ["build", "--platform", "linux/amd64"]
    assert build[build.index("--tag") + 1] == compiler.IMAGE
    assert "edgetpu-compiler=16.0" in (Path(build[-1]) / "Dockerfile").read_text()


def test_an_image_that_cannot_be_built_is_reported_in_the_engines_words(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    engine(tmp_path, 'test "$1" = build && echo "Cannot connect to the Docker daemon"; exit 1')
    with pytest.raises(ConversionError, match=r"cannot build the image .* Cannot connect to the Docker daemon"):
        compile(mapped_model("CONV_2D"))


def test_a_container_engine_counts_only_with_its_image(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    engine(tmp_path, "exit 1")
    assert find_compiler() is None
    engine(tmp_path, "exit 0")
    assert find_compiler() == Compiler(str(tmp_path / "docker"), container=True)


def test_the_container_has_no_network_and_sees_only_the_models_folder(tmp_path):
    command = Compiler("/usr/bin/podman", container=True).command(tmp_path, CompileOptions(), "edgetl-1")
    assert command[:2] == ["/usr/bin/podman", "run"]
    assert command[command.index("--network") + 1] == "none"
    assert command[command.index("--volume") + 1] == f"{tmp_path}:/model"
    assert command[-1] == "/model/model.tflite"


def test_the_oldest_runtime_is_passed_to_the_compiler(tmp_path):
    command = Compiler("edgetpu_compiler", container=False).command(
        tmp_path, CompileOptions(min_runtime_version=13), "unused"
    )
    assert command[command.index("--min_runtime_version") + 1] == "13"


@pytest.mark.parametrize("wrong", [{"min_runtime_version": 9}, {"min_runtime_version": 15}, {"timeout_s": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError):
        CompileOptions(**wrong)
