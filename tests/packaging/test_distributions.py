"""The wheel and the source distribution contain what their users need, and one version number."""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import edgetl
from tests.conftest import REPOSITORY

INFO = f"edgetl-{edgetl.__version__}.dist-info"


@pytest.fixture(scope="module")
def entries(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{INFO}/METADATA").decode())


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE"])
def test_the_wheel_carries_the_licence_and_the_notice(name: str, wheel: Path, metadata: Message) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{INFO}/licenses/{name}") == (REPOSITORY / name).read_bytes()
    assert name in metadata.get_all("License-File", [])
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert all(f"\n   {section}. " in text for section in range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_wheel_holds_every_module_and_data_file(entries: set[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--", "edgetl"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.split()
    assert {name for name in listed if (REPOSITORY / name).exists()} <= entries
    for folder, source in {
        "targets_data": "targets",
        "docker_data/edgetpu-compiler": "docker/edgetpu-compiler",
        "fleet_data": "examples/fleet",
    }.items():
        there = {name.split("/", 1)[1] for name in entries if name.startswith(f"edgetl/{folder}/")}
        assert there == {f"{folder}/{path}" for path in _files(REPOSITORY / source)}


def test_the_wheel_holds_nothing_else(entries: set[str]) -> None:
    assert {name.split("/")[0] for name in entries} == {"edgetl", INFO}


def test_type_checkers_are_told_that_edgetl_is_typed(entries: set[str]) -> None:
    assert "edgetl/py.typed" in entries


def test_the_version_is_written_once(metadata: Message) -> None:
    assert metadata["Version"] == edgetl.__version__
    initial = (REPOSITORY / "edgetl/__init__.py").read_text()
    assert re.findall(r'^__version__ = "(.*)"$', initial, re.MULTILINE) == [edgetl.__version__]
    assert "\nversion = " not in (REPOSITORY / "pyproject.toml").read_text().split("[tool.")[0]


def test_the_source_distribution_can_be_built_and_tested(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt"} <= names
    assert {"tests/conftest.py", "targets/rpi4.toml", "docker/edgetpu-compiler/Dockerfile"} <= names


def _files(folder: Path) -> set[str]:
    paths = folder.rglob("*")
    return {path.relative_to(folder).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts}
