"""What is present on a device counts only if it works: its environment, its home, its camera library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgetl.deployment.provisioning import environment
from edgetl.deployment.provisioning.environment import camera_advice, obstacles
from edgetl.deployment.provisioning.probe import probe
from tests.deployment.provisioning.test_environment import machine


def make_environment(home: Path, script: str) -> None:
    """An environment whose Python is this script."""
    folder = home / ".local/share/edgetl"
    python = folder / "environments/0123/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    (folder / "python").symlink_to("environments/0123")


@pytest.mark.parametrize(("script", "found"), [("exit 1", None), ("exit 0", "0123")])
def test_an_environment_counts_only_if_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_environment(tmp_path, script)
    assert probe(".local/share/edgetl")["environment"] == found


def test_a_missing_home_is_an_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    fault = str(probe(".local/share/edgetl")["home_fault"])
    assert obstacles(machine(home_fault=fault))["home"] == f"has no home folder {tmp_path}/gone; create it there"


@pytest.mark.parametrize(("option", "fault"), [("noexec", "does not run programs from"), ("ro", "cannot write")])
def test_a_home_that_cannot_be_used_is_an_obstacle(tmp_path: Path, option: str, fault: str) -> None:
    code = "from edgetl.deployment.provisioning.probe import probe; print(probe('.local/share/edgetl')['home_fault'])"
    script = f'mount -t tmpfs -o {option} tmpfs "$0" && cd "$0" && HOME="$0" exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable, "-c", code]
    source = Path(environment.__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(source)})
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.stdout.startswith(f"{fault} {tmp_path}")


def test_a_home_that_works_has_no_fault_and_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert probe(".local/share/edgetl")["home_fault"] == ""
    assert list(tmp_path.iterdir()) == []


def test_the_environment_sees_the_camera_library_of_the_system() -> None:
    pi = machine(architecture="aarch64", camera="picamera2", numpy="1.24.2")
    assert environment._needs_system_packages(pi)
    assert environment._numpy_range(pi) == ["numpy<2"]
    assert environment._numpy_range(machine(architecture="aarch64", camera="picamera2", numpy="2.2.4")) == ["numpy>=2"]
    assert not environment._needs_system_packages(machine(architecture="aarch64"))


def test_a_missing_camera_library_is_said_before_the_service_needs_it() -> None:
    assert "python3-picamera2" in camera_advice(machine(architecture="aarch64"))
    assert camera_advice(machine(camera="picamera2")) == ""
    assert "edgetl prepare" in camera_advice(machine(camera="picamera2", environment="0123"))
