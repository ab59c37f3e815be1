"""Finds and runs the Edge TPU compiler, and verifies its output.

The compiler is Google's program for x86-64 Linux. It is used from PATH, or in a container that is built from the recipe
included in edgetl.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgetl.bundle import EDGETPU_MODEL, MODEL
from edgetl.conversion.edgetpu.analysis import Analysis, Limits, analyse
from edgetl.conversion.edgetpu.compiler_log import CompilerLog, parse_log
from edgetl.conversion.edgetpu.package import CompiledModel, read_package
from edgetl.conversion.edgetpu.rules import load_rules
from edgetl.conversion.edgetpu.verification import left_to_cpu, verify
from edgetl.errors import ConversionError, OptionError
from edgetl.runtime.system import data_folder

PROGRAM = "edgetpu_compiler"
IMAGE = "edgetl/edgetpu-compiler"

_ENGINES = ("docker", "podman")
_ENGINE_TIMEOUT_S = 20
_BUILD_TIMEOUT_S = 900
_MAX_LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class CompileOptions:
    """How to compile.

    `min_runtime_version` is the oldest Edge TPU runtime to support, 10 to 14; None means the compiler's default, 14.

    Raises:
        OptionError: a number is out of range.
    """

    timeout_s: float = 600.0
    min_runtime_version: Optional[int] = None

    def __post_init__(self) -> None:
        version = self.min_runtime_version
        if version is not None and not 10 <= version <= 14:
            raise OptionError(f"min_runtime_version must be 10 to 14, received {version}")
        if self.timeout_s < 1:
            raise OptionError(f"timeout_s must be at least 1, received {self.timeout_s}")


@dataclass(frozen=True)
class Compiler:
    """An available compiler: `path` is the program, or the container engine if `container` is set."""

    path: str
    container: bool

    def command(self, folder: Path, options: CompileOptions, name: str) -> list[str]:
        """The command that compiles the folder's model.tflite, with the output in the same folder."""
        inside = "/model" if self.container else str(folder)
        flags = ["--show_operations", "--out_dir", inside, "--timeout_sec", str(int(options.timeout_s))]
        if options.min_runtime_version is not None:
            flags += ["--min_runtime_version", str(options.min_runtime_version)]
        arguments = [*flags, f"{inside}/{MODEL}"]
        if not self.container:
            return [self.path, *arguments]
        limits = ["--rm", "--name", name, "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
        if Path(self.path).name == "podman":  # otherwise the user inside does not own the folder
            limits += ["--userns", "keep-id"]
        volume = ["--platform", "linux/amd64", "--volume", f"{folder}:{inside}"]
        return [self.path, "run", *limits, *volume, IMAGE, *arguments]


@dataclass(frozen=True)
class CompileResult:
    """A compiled model, verified against its source, and the prediction for it.

    `differences` are the operators for which the compiler did not do what `analysis` predicted.
    """

    model: bytes
    compiled: CompiledModel
    log: CompilerLog
    analysis: Analysis
    differences: tuple[str, ...]


def find_compiler() -> Optional[Compiler]:
    """The compiler on PATH, or a working container engine that has its image; None without either."""
    program = shutil.which(PROGRAM)
    if program is not None:
        return Compiler(program, container=False)
    for engine in _ENGINES:
        path = shutil.which(engine)
        if path is not None and _has_image(path):
            return Compiler(path, container=True)
    return None


def make_compiler() -> Compiler:
    """Build the compiler's container image, which takes about a minute, once.

    This downloads the compiler from Google, under Google's terms.

    Raises:
        ConversionError: no container engine is installed, or it cannot build the image.
    """
    engine = next((path for path in map(shutil.which, _ENGINES) if path is not None), None)
    if engine is None:
        raise ConversionError(
            f"{PROGRAM} is not on PATH, and neither Docker nor Podman is installed to run it in; "
            "on x86-64 Linux, install one of the two, then run the same command again"
        )
    command = [engine, "build", "--platform", "linux/amd64", "--tag", IMAGE, str(image_folder())]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{engine} took longer than {_BUILD_TIMEOUT_S} s to build the image {IMAGE}") from error
    except OSError as error:
        raise ConversionError(f"cannot start {engine}: {error.strerror}") from error
    if done.returncode:
        output = _last_line(done.stdout.decode("utf-8", "replace"))
        raise ConversionError(f"{engine} cannot build the image {IMAGE}: {output}; try: {' '.join(command)}")
    return Compiler(engine, container=True)


def image_folder() -> Path:
    """The folder with the Dockerfile of the image."""
    return data_folder("docker_data/edgetpu-compiler")


def compile(
    model: bytes,
    options: Optional[CompileOptions] = None,
    limits: Optional[Limits] = None,
    compiler: Optional[Compiler] = None,
) -> CompileResult:
    """Compile a model, verify the output, and compare it with the prediction.

    `limits` are those of the board that will run it. If `compiler` is None, one is searched for; if there is only a
    container engine, the compiler's image is built first.

    Raises:
        ConversionError: no compiler is available, it refuses the model, fails or times out, or its output is not a
            compiled form of the model.
    """
    options = options or CompileOptions()
    analysis = analyse(model, limits)
    if analysis.refused:
        raise ConversionError(
            f"the Edge TPU compiler would refuse the model: {analysis.refused}; {analysis.refused_fix}"
        )
    compiler = compiler or find_compiler() or make_compiler()
    with tempfile.TemporaryDirectory(prefix="edgetl-compile-") as name:
        folder = Path(name)
        (folder / MODEL).write_bytes(model)
        text = _run(compiler, folder, options)
        log = parse_log(text)
        if not (folder / EDGETPU_MODEL).is_file():
            raise ConversionError(f"the Edge TPU compiler {log.version} failed: {_cause(log, text)}")
        content = (folder / EDGETPU_MODEL).read_bytes()
    verification = verify(model, content, limits)
    if not verification.match:
        raise ConversionError(f"the output of the Edge TPU compiler is not this model: {verification.reasons[0]}")
    compiled = read_package(content)
    analysis = analyse(model, limits, log.version)
    differences = tuple(_differences(analysis, left_to_cpu(model, content), log))
    return CompileResult(content, compiled, log, analysis, differences)


def _has_image(engine: str) -> bool:
    command = [engine, "image", "inspect", IMAGE]
    try:
        result = subprocess.run(command, capture_output=True, timeout=_ENGINE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _run(compiler: Compiler, folder: Path, options: CompileOptions) -> str:
    """Run the compiler and return its output. No process is left running, also after an error."""
    name = f"edgetl-{uuid.uuid4().hex}"
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                compiler.command(folder, options, name),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ConversionError(f"cannot start {compiler.path}: {error.strerror}") from error
        try:
            process.wait(options.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"the Edge TPU compiler needs more than {options.timeout_s:g} s; allow more time or use a smaller model"
            ) from error
        finally:
            _stop(process, compiler, name)
        output.seek(0)
        return output.read(_MAX_LOG_BYTES).decode("utf-8", "replace")


def _stop(process: subprocess.Popen[bytes], compiler: Compiler, name: str) -> None:
    """Kill the process group, and the container, which is not part of it."""
    if process.poll() is not None:
        return
    if compiler.container:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([compiler.path, "kill", name], capture_output=True, timeout=_ENGINE_TIMEOUT_S, check=False)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cause(log: CompilerLog, text: str) -> str:
    """Why the compiler wrote no model; it prints an unknown version before the failure that follows from it."""
    unknown = dict.fromkeys(log.unknown_versions)
    reasons = [f"it does not know version {version} of {op}: {load_rules().version_fix(op)}" for op, version in unknown]
    return "; ".join(reasons or log.failures) or _last_line(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _differences(analysis: Analysis, on_cpu: frozenset[int], log: CompilerLog) -> Iterator[str]:
    """Prediction against result for each operator; the reasons come from the log, which only counts by name."""
    statuses = Counter({(row.op, row.status): row.count for row in log.rows if not row.mapped})
    for op in analysis.ops:
        actual = "cpu" if op.index in on_cpu else "tpu"
        if actual == op.placed:
            continue
        reasons = sorted({status for name, status in statuses if name == op.op})
        reason = f" ({'; '.join(reasons)})" if actual == "cpu" and reasons else ""
        yield f"operator {op.index} {op.op}: predicted on the {op.placed}, compiled for the {actual}{reason}"
