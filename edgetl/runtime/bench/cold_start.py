"""Measures a fresh process up to its first prediction, with edgetl and with the bare interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Optional, Sequence, Union

from edgetl.errors import EngineError
from edgetl.runtime.inference.engine import PACKAGES, interpreters


@dataclass(frozen=True)
class StartUp:
    """What a fresh process needed up to its first prediction."""

    ms: float
    """Wall-clock time from before the process starts, so it includes the start of Python."""
    processor_ms: float
    """Processor time of all its threads, which other programs disturb less."""
    peak_bytes: int
    """The peak resident memory in bytes."""


def start_classifier(
    bundle: Union[str, os.PathLike[str]], threads: int, state: Optional[Union[str, os.PathLike[str]]] = None
) -> StartUp:
    """Starts a process that creates a Classifier, from a Learner if there is a `state`, and predicts one frame.

    Raises EngineError if it fails, with its last line.
    """
    return _start(_CLASSIFIER, [os.fspath(bundle), str(threads), "" if state is None else os.fspath(state)])


def start_interpreter(model: bytes, threads: int) -> StartUp:
    """Starts a process in which the bare interpreter runs the model on one frame: the baseline for edgetl.

    Raises EngineError if it fails, with its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(model)
        (preferred, _), *_ = interpreters()
        return _start(_INTERPRETER.format(module=PACKAGES[preferred]), [str(path), str(threads)])


_REPORT = """
import time
print(1000 * time.process_time(), flush=True)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
"""Memory is the kernel's high-water mark in KiB; that of getrusage starts at the parent's."""

_CLASSIFIER = (
    """
import sys
import numpy
bundle, threads, state = sys.argv[1:]
if state:
    from edgetl.runtime import Learner
    classifier = Learner(bundle, state=state, threads=int(threads), observe=False).classifier()
else:
    from edgetl.runtime import Classifier
    classifier = Classifier(bundle, threads=int(threads))
size = classifier.manifest.preprocess
classifier.predict(numpy.zeros((size["height"], size["width"], 3), numpy.uint8))
"""
    + _REPORT
)

_INTERPRETER = (
    """
import sys
import numpy
from {module} import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=int(sys.argv[2]))
interpreter.allocate_tensors()
model_input, model_output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.set_tensor(model_input["index"], numpy.zeros(model_input["shape"], model_input["dtype"]))
interpreter.invoke()
interpreter.get_tensor(model_output["index"])
"""
    + _REPORT
)


def _start(script: str, arguments: Sequence[str]) -> StartUp:
    started = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        processor_ms = process.stdout.readline()
        elapsed = perf_counter() - started
        peak = process.stdout.readline()
        _, errors = process.communicate()
    if not peak:
        lines = errors.strip().splitlines() or [f"it exited with code {process.returncode}"]
        raise EngineError(f"a fresh process could not predict: {lines[-1]}")
    return StartUp(ms=1000 * elapsed, processor_ms=float(processor_ms), peak_bytes=1024 * int(peak))
