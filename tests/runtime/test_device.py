"""The device rooms need numpy, Pillow and one interpreter, and nothing of the host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import CACHE

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "packages"),
    [
        ("3.9", ("tflite-runtime==2.14.0", "numpy==1.26.4", "pillow")),
        ("3.9", ("ai-edge-litert==2.1.0", "numpy", "pillow")),
        ("3.13", ("ai-edge-litert", "numpy", "pillow")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_the_device_rooms_run_on_other_pythons(version: str, packages: tuple[str, ...], tiny_bundle: Path) -> None:
    assert predict_with(_device_python(version, packages), tiny_bundle) == ["red", "3"]


def _find_python(version: str) -> str:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python{version}")]
    for candidate in filter(None, candidates):
        if subprocess.run([str(candidate), "--version"], capture_output=True).returncode == 0:
            return str(candidate)
    pytest.skip(f"there is no python{version} on PATH or under {pyenv}")


def _device_python(version: str, packages: tuple[str, ...]) -> str:
    """An environment like a device's, made once and kept in the cache; a visible skip where that cannot be."""
    base = _find_python(version)
    folder = CACHE / f"python{version}-{packages[0].replace('==', '-')}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([base, "-m", "venv", str(folder)], check=True)
        installed = subprocess.run(
            [str(folder / "bin/python"), "-m", "pip", "install", "-q", *packages], capture_output=True, text=True
        )
        if installed.returncode != 0:
            pytest.skip(f"cannot install {' '.join(packages)}: {installed.stderr.strip().splitlines()[-1:]}")
        (folder / "complete").touch()
    return str(folder / "bin/python")
