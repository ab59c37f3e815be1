"""A device is examined before anything is changed there: what it is, what it has, and what would fix the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import connect, deploy
from edgetl.deployment.provisioning import Diagnosis, diagnose, diagnosis
from tests.deployment.provisioning.test_environment import machine
from tests.deployment.server import Server
from tests.runtime.device.installing import Releases, digest_of


def diagnosed(server: Server, **options: Any) -> Diagnosis:
    with connect("board", ssh_config=server.config, **options) as transport:
        return diagnose(transport)


@contextmanager
def without_environment(server: Server, folder: Path) -> Iterator[Path]:
    """A server whose user has no edgetl, and a client configuration for it; restored at the end."""
    environment = server.home / ".local"
    shutil.move(environment, folder / "aside")
    try:
        yield server.config
    finally:
        shutil.rmtree(environment, ignore_errors=True)
        shutil.move(folder / "aside", environment)


@pytest.fixture
def bare(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A device that has python3, and no edgetl."""
    with without_environment(server, tmp_path):
        yield server


def advice(found: Diagnosis) -> dict[str, str]:
    return {finding.name: finding.advice for finding in found.findings if finding.advice}


def test_a_diagnosis_says_what_a_device_is_and_runs(server: Server, releases: Releases, tmp_path: Path) -> None:
    root = str(tmp_path / "device")
    with connect("board", ssh_config=server.config, root=root) as transport:
        deploy(releases.first, transport)
    found = diagnosed(server, root=root)
    values = {finding.name: finding.found for finding in found.findings}
    assert found.is_usable
    assert values["runs"] == f"colours {digest_of(releases.first)[:12]}, not as a service"
    assert {"board", "system", "memory", "free space", "Python", "Edge TPU", "edgetl", "interpreter"} < set(values)


def test_a_diagnosis_changes_nothing(server: Server, tmp_path: Path) -> None:
    assert diagnosed(server, root=str(tmp_path / "device")).is_usable
    assert not (tmp_path / "device").exists()


def test_on_a_new_device_the_diagnosis_says_what_a_deployment_installs(
    bare: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "probe_machine", lambda _: machine(camera="picamera2"))
    found = diagnosed(bare)
    assert found.device is None
    assert found.is_usable
    assert advice(found) == {
        "edgetl": "edgetl deploy installs it, or: edgetl prepare board",
        "interpreter": "installed with edgetl",
    }


def test_a_diagnosis_reports_all_obstacles_at_once(bare: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"python": (3, 13), "packages": ("PIL",), "free_bytes": 1000, "edgetpus": 1}
    monkeypatch.setattr(diagnosis, "probe_machine", lambda _: machine(**changes))
    found = diagnosed(bare)
    assert not found.is_usable
    assert set(advice(found)) == {"free space", "packages", "interpreter", "camera library", "Edge TPU"}
    monkeypatch.setattr(diagnosis, "probe_machine", lambda _: machine(python=(3, 7)))
    assert "Python" in advice(diagnosed(bare))
