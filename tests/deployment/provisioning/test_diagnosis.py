"""A device is told of before anything is changed there: what it is, what it has, and what would mend the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import connect, deploy
from edgetl.deployment.provisioning import diagnosis
from edgetl.deployment.provisioning.diagnosis import Examination, examine
from edgetl.deployment.transport.ssh import SshTransport
from tests.deployment.provisioning.test_environment import machine
from tests.deployment.server import Server
from tests.runtime.device.installing import Releases, digest_of


def examined(server: Server, **options: Any) -> Examination:
    with connect("board", ssh_config=server.config, **options) as transport:
        assert isinstance(transport, SshTransport)
        return examine(transport)


def bare(server: Server, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Examination:
    """What is found on a machine that has no edgetl."""
    monkeypatch.setattr(SshTransport, "_choose_python", lambda transport: setattr(transport, "is_bare", True))
    monkeypatch.setattr(diagnosis, "look_at", lambda _: machine(**changes))
    return examined(server)


def advice(found: Examination) -> dict[str, str]:
    return {finding.name: finding.advice for finding in found.findings if finding.advice}


def test_a_device_tells_what_it_is_and_runs(server: Server, releases: Releases, tmp_path: Path) -> None:
    root = str(tmp_path / "device")
    with connect("board", ssh_config=server.config, root=root) as transport:
        deploy(releases.first, transport)
    found = examined(server, root=root)
    told = {finding.name: finding.found for finding in found.findings}
    assert found.is_usable
    assert told["runs"] == f"colours {digest_of(releases.first)[:12]}, not as a service"
    assert {"board", "system", "memory", "free space", "Python", "Edge TPU", "edgetl", "interpreter"} < set(told)


def test_looking_changes_nothing(server: Server, tmp_path: Path) -> None:
    assert examined(server, root=str(tmp_path / "device")).is_usable
    assert not (tmp_path / "device").exists()


def test_a_fresh_device_is_told_what_a_deployment_brings(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bare(server, monkeypatch)
    assert found.is_usable
    assert advice(found) == {
        "edgetl": "a deployment brings it, or: edgetl prepare board",
        "interpreter": "it comes with edgetl",
    }


def test_all_that_is_in_the_way_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bare(server, monkeypatch, python=(3, 13), packages=("PIL",), free_bytes=1000, edgetpus=1)
    assert not found.is_usable
    assert set(advice(found)) == {"free space", "packages", "interpreter", "Edge TPU"}
    assert "Python" in advice(bare(server, monkeypatch, python=(3, 7)))
