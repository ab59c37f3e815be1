"""Hides where the Edge TPU compiler is and how it is run; build and `edgetl compile` call it.

It is a program of Google's for x86-64 Linux: on PATH, or in a container whose recipe edgetl carries.
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
from edgetl.conversion.edgetpu.verification import left_to_cpu, verify
from edgetl.errors import ConversionError, OptionError
from edgetl.runtime.system import data_folder

PROGRAM = "edgetpu_compiler"
IMAGE = "edgetl/edgetpu-compiler"

_ENGINES = ("docker", "podman")
_ASK_ENGINE_S = 20
_BUILD_IMAGE_S = 900
_MOST_LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class CompileOptions:
    """How to compile. `min_runtime_version` (10 to 14) None leaves it to the compiler, which takes 14."""

    timeout_s: float = 600.0
    min_runtime_version: Optional[int] = None

    def __post_init__(self) -> None:
        version = self.min_runtime_version
        if version is not None and not 10 <= version <= 14:
            raise OptionError(f"min_runtime_version is {version}; Edge TPU runtimes go from 10 to 14")
        if self.timeout_s < 1:
            raise OptionError(f"timeout_s is {self.timeout_s}; give the compiler at least 1 second")


@dataclass(frozen=True)
class Compiler:
    """A compiler that was found: the program's path, or a container engine's where `container` is set."""

    path: str
    container: bool

    def command(self, folder: Path, options: CompileOptions, name: str) -> list[str]:
        """The command that compiles model.tflite of the folder into the folder."""
        inside = "/model" if self.container else str(folder)
        flags = ["--show_operations", "--out_dir", inside, "--timeout_sec", str(int(options.timeout_s))]
        if options.min_runtime_version is not None:
            flags += ["--min_runtime_version", str(options.min_runtime_version)]
        arguments = [*flags, f"{inside}/{MODEL}"]
        if not self.container:
            return [self.path, *arguments]
        limits = ["--rm", "--name", name, "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
        if Path(self.path).name == "podman":  # otherwise the user inside is not the one who owns the folder
            limits += ["--userns", "keep-id"]
        volume = ["--platform", "linux/amd64", "--volume", f"{folder}:{inside}"]
        return [self.path, "run", *limits, *volume, IMAGE, *arguments]


@dataclass(frozen=True)
class CompileResult:
    """A compiled model that was proved to come from its source, beside what had been foretold.

    `differences` tells where the compiler did not do what `analysis` said; empty where it did.
    """

    model: bytes
    compiled: CompiledModel
    log: CompilerLog
    analysis: Analysis
    differences: tuple[str, ...]


def find_compiler() -> Optional[Compiler]:
    """The compiler on PATH, or a container engine that runs here and has its image; None without either."""
    program = shutil.which(PROGRAM)
    if program is not None:
        return Compiler(program, container=False)
    for engine in _ENGINES:
        path = shutil.which(engine)
        if path is not None and _has_image(path):
            return Compiler(path, container=True)
    return None


def make_compiler() -> Compiler:
    """A container engine, with the compiler's image, which is made here: it takes a minute, once.

    That downloads the compiler from Google, under Google's terms.

    Raises:
        ConversionError: there is no container engine, or it cannot make the image.
    """
    engine = next((path for path in map(shutil.which, _ENGINES) if path is not None), None)
    if engine is None:
        raise ConversionError(
            f"there is no {PROGRAM} on PATH, and neither Docker nor Podman to run it in; "
            "on x86-64 Linux, install one of the two, then run the same command again"
        )
    command = [engine, "build", "--platform", "linux/amd64", "--tag", IMAGE, str(image_folder())]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_BUILD_IMAGE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{engine} took longer than {_BUILD_IMAGE_S} s to make the image {IMAGE}") from error
    except OSError as error:
        raise ConversionError(f"{engine} does not start: {error.strerror}") from error
    if done.returncode:
        said = _last_line(done.stdout.decode("utf-8", "replace"))
        raise ConversionError(f"{engine} cannot make the image {IMAGE}: {said}; try it by hand: {' '.join(command)}")
    return Compiler(engine, container=True)


def image_folder() -> Path:
    """The folder with the image's Dockerfile."""
    return data_folder("docker_data/edgetpu-compiler")


def compile(
    model: bytes,
    options: Optional[CompileOptions] = None,
    limits: Optional[Limits] = None,
    compiler: Optional[Compiler] = None,
) -> CompileResult:
    """The model as the Edge TPU compiler writes it, and how that compares with what was foretold.

    `limits` are those of the board that is to run it; `compiler` is looked for where it is not given, and its
    container image is made where a container engine is all there is.

    Raises:
        ConversionError: there is no compiler, it refuses the model, fails or takes too long, or what it
            wrote is not a compiled form of the model.
    """
    options = options or CompileOptions()
    analysis = analyse(model, limits)
    if analysis.refused:
        refused = f"{analysis.refused}. What mends it: {analysis.refused_fix}"
        raise ConversionError(f"the Edge TPU compiler would refuse the model: {refused}")
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
        raise ConversionError(f"what the Edge TPU compiler wrote is not this model: {verification.reasons[0]}")
    compiled = read_package(content)
    differences = tuple(_differences(analysis, left_to_cpu(model, content), log))
    return CompileResult(content, compiled, log, analysis, differences)


def _has_image(engine: str) -> bool:
    command = [engine, "image", "inspect", IMAGE]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_ASK_ENGINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def _run(compiler: Compiler, folder: Path, options: CompileOptions) -> str:
    """Run to the end and return what was printed; nothing is left running when this returns or raises."""
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
            raise ConversionError(f"{compiler.path} does not start: {error.strerror}") from error
        try:
            process.wait(options.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"the Edge TPU compiler took longer than {options.timeout_s:g} s; give it more time, or a smaller model"
            ) from error
        finally:
            _stop(process, compiler, name)
        output.seek(0)
        return output.read(_MOST_LOG_BYTES).decode("utf-8", "replace")


def _stop(process: subprocess.Popen[bytes], compiler: Compiler, name: str) -> None:
    """End the whole process group, and the container, which lives outside of it."""
    if process.poll() is not None:
        return
    if compiler.container:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([compiler.path, "kill", name], capture_output=True, timeout=_ASK_ENGINE_S, check=False)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cause(log: CompilerLog, text: str) -> str:
    return "; ".join(log.failures) or _last_line(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _differences(analysis: Analysis, on_cpu: frozenset[int], log: CompilerLog) -> Iterator[str]:
    """Prediction against outcome, operator by operator; the log, which counts only, gives the reasons."""
    statuses = Counter({(row.op, row.status): row.count for row in log.rows if not row.mapped})
    for op in analysis.ops:
        outcome = "cpu" if op.index in on_cpu else "tpu"
        if outcome == op.placed:
            continue
        said = sorted({status for name, status in statuses if name == op.op})
        reason = f" ({'; '.join(said)})" if outcome == "cpu" and said else ""
        yield f"operator {op.index} {op.op}: foretold on the {op.placed}, compiled to the {outcome}{reason}"
