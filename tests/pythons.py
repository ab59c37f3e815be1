"""Environments of other Pythons with what a device has, made once and kept in the user's cache.

`device_python` and `tflite_runtime` are fixtures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.emulation.cache import kept
from tests.emulation.machines import NUMPY_1, OLDEST_INTERPRETER
from tests.emulation.tools import UnavailableError, tell

DEVICE_PYTHONS = [
    ("3.9", (OLDEST_INTERPRETER, NUMPY_1, "pillow")),
    ("3.9", ("ai-edge-litert==2.1.0", "numpy", "pillow")),
    ("3.10", ("ai-edge-litert", "numpy", "pillow")),
    ("3.11", ("ai-edge-litert", "numpy", "pillow")),
    ("3.12", ("ai-edge-litert", "numpy", "pillow")),
    ("3.13", ("ai-edge-litert", "numpy", "pillow")),
]
"""The Pythons that the device rooms support, each with packages that a device of that Python gets."""

INTERPRETER_PYTHONS = ("3.11", "3.10", "3.9")
"""Those that tflite-runtime 2.14.0 has wheels for on x86-64."""


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(entry, marks=[pytest.mark.slow, pytest.mark.device_python], id=f"{entry[0]}-{entry[1][0]}")
        for entry in DEVICE_PYTHONS
    ],
)
def device_python(request: pytest.FixtureRequest) -> str:
    """The Python of an environment like a device's, without edgetl; a visible skip where it cannot be made."""
    with _or_skip():
        return str(environment(*request.param))


@pytest.fixture(scope="session")
def tflite_runtime() -> Path:
    """The Python of an environment with the oldest interpreter; a visible skip where it cannot be made."""
    with _or_skip():
        return oldest_interpreter()


def oldest_interpreter() -> Path:
    """The Python of an environment with tflite-runtime 2.14.0. Raises UnavailableError."""
    found = [version for version in INTERPRETER_PYTHONS if _find(version)]
    if not found:
        raise UnavailableError(f"tflite-runtime needs Python {', '.join(INTERPRETER_PYTHONS)}; none of them is here")
    return environment(found[0], (OLDEST_INTERPRETER, NUMPY_1))


def environment(version: str, packages: tuple[str, ...]) -> Path:
    """The Python of a virtual environment with these packages. Raises UnavailableError where it cannot be made."""
    base = _find(version)
    if base is None:
        raise UnavailableError(f"there is no python{version} on PATH or in pyenv")

    def make(folder: Path) -> None:
        tell(base, "-m", "venv", folder)
        tell(folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)

    name = f"python{version}-{packages[0].replace('==', '-')}"
    return kept(name, f"{base} {' '.join(packages)}", make) / "bin/python"


def _find(version: str) -> str | None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python{version}")]
    for candidate in filter(None, candidates):
        # A shim of pyenv is there, but fails, where its version is not selected.
        if subprocess.run([str(candidate), "--version"], capture_output=True).returncode == 0:
            return str(candidate)
    return None


@contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except UnavailableError as reason:
        pytest.skip(str(reason))
