"""The wheel that is sent to a device is whole, and the same from a checkout and from an installed edgetl."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgetl.deployment.provisioning import environment
from edgetl.targets import list_targets
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH where pip installed the release's wheel."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return folder


def printed(code: str, path: Path, cwd: Path) -> str:
    variables = {**os.environ, "PYTHONPATH": str(path)}
    ran = subprocess.run([sys.executable, "-c", code], env=variables, cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_device_gets_the_targets_and_the_licence_from_a_checkout(tmp_path: Path) -> None:
    with zipfile.ZipFile(environment._pack_own_wheel(tmp_path)) as archive:
        archive.extractall(tmp_path / "device")
    code = "from edgetl.targets import list_targets; print(*(target.name for target in list_targets()))"
    assert printed(code, tmp_path / "device", tmp_path).split() == [target.name for target in list_targets()]
    (info,) = (tmp_path / "device").glob("edgetl-*.dist-info")
    for name in environment.LICENCES:
        assert (info / "licenses" / name).read_bytes() == (REPOSITORY / name).read_bytes()


@pytest.mark.parametrize("name", ["digest", "content"])
def test_an_installed_edgetl_sends_the_same(name: str, installed: Path, tmp_path: Path) -> None:
    codes = {
        "digest": "from edgetl.deployment.provisioning import environment; print(environment.own_environment())",
        "content": (
            "import edgetl, sys, zipfile, pathlib; from edgetl.deployment.provisioning import environment;"
            "print(edgetl.__file__, file=sys.stderr);"
            "wheel = environment._pack_own_wheel(pathlib.Path.cwd());"
            "print(*((one.filename, one.CRC) for one in zipfile.ZipFile(wheel).infolist()), sep='\\n')"
        ),
    }
    assert printed(codes[name], installed, tmp_path) == printed(codes[name], REPOSITORY, tmp_path)


def test_an_installed_edgetl_is_what_is_asked(installed: Path, tmp_path: Path) -> None:
    assert printed("import edgetl; print(edgetl.__file__)", installed, tmp_path).startswith(str(installed))


def test_the_versions_that_a_device_gets_are_those_of_the_project() -> None:
    wanted = importlib.metadata.metadata("edgetl")["Requires-Python"]
    assert wanted == f">={environment._dotted(environment.OLDEST_PYTHON)}"
    assert environment._requirement("numpy").startswith("numpy>=")
    assert environment._requirement("tflite-runtime").startswith("tflite-runtime==")
    assert environment._requirement("mdurl") == "mdurl"
