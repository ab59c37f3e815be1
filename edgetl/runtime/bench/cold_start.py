"""Hides how a fresh process is taken to its first prediction, with and without edgetl; bench and benchmarks ask."""

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
    """What a fresh process needed until its first prediction was there."""

    ms: float
    """From before the process was started, the Python interpreter included."""
    processor_ms: float
    """What processors spent on it meanwhile, all threads together: other programs disturb that less."""
    peak_bytes: int
    """The most memory that was resident, in bytes."""


def start_classifier(
    bundle: Union[str, os.PathLike[str]], threads: int, state: Optional[Union[str, os.PathLike[str]]] = None
) -> StartUp:
    """A fresh process that makes a Classifier, or a Learner's with `state`, and predicts one frame.

    Raises EngineError where it fails, with what it said.
    """
    return _start(_CLASSIFIER, [os.fspath(bundle), str(threads), "" if state is None else os.fspath(state)])


def start_interpreter(model: bytes, threads: int) -> StartUp:
    """A fresh process that has the bare interpreter run the model on one frame: what edgetl is measured against.

    Raises EngineError where it fails, with what it said.
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
"""Memory is the kernel's high-water mark in KiB; getrusage's would begin with that of the parent process."""

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
taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.set_tensor(taken["index"], numpy.zeros(taken["shape"], taken["dtype"]))
interpreter.invoke()
interpreter.get_tensor(given["index"])
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
        _, complaint = process.communicate()
    if not peak:
        said = complaint.strip().splitlines()
        raise EngineError(f"a fresh process could not predict: {said[-1] if said else process.returncode}")
    return StartUp(ms=1000 * elapsed, processor_ms=float(processor_ms), peak_bytes=1024 * int(peak))
