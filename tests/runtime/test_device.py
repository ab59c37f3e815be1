"""The device rooms need numpy, Pillow and one interpreter, and nothing of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

BLOCKED = ["tensorflow", "tf_keras", "keras", "click", "rich", "sklearn", "scipy", "jinja2", "flatbuffers", "tomli"]

PREDICT = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
import edgetl.bundle, edgetl.errors, edgetl.learners, edgetl.runtime
from edgetl.runtime import *
import numpy
classifier = Classifier(sys.argv[1])
frame = numpy.zeros((32, 32, 3), numpy.uint8)
frame[..., 0] = 200
print(classifier.predict(frame).label)
print(len(list(classifier.predict_many([frame] * 3))))
"""
"""Also what a device needs: all rooms import, and a bundle predicts."""


def predict_with(python: str, bundle: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(
        [python, "-c", PREDICT, str(bundle)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_the_device_rooms_run_where_nothing_of_the_host_can_be_imported(tiny_bundle: Path) -> None:
    assert predict_with(sys.executable, tiny_bundle) == ["red", "3"]


def test_importing_the_runtime_brings_in_no_interpreter_yet() -> None:
    code = "import edgetl.runtime, sys; assert not {'ai_edge_litert', 'tflite_runtime', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_the_classifier_loads_nothing_that_a_prediction_does_not_need() -> None:
    needless = {"concurrent.futures", "email", "sqlite3", "subprocess"}
    needless |= {f"edgetl.learners.{name}" for name in ("adaptation", "drift", "selection")}
    code = f"import sys; from edgetl.runtime import Classifier; print(*{needless!r} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


def test_the_device_rooms_run_on_other_pythons(device_python: str, tiny_bundle: Path) -> None:
    assert predict_with(device_python, tiny_bundle) == ["red", "3"]
