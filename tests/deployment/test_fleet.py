"""Ansible deploys to a fleet: canaries first, then waves. Failures stop it; a failed device runs its former bundle."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import RolloutOptions, RolloutOutcome, connect, pull, roll_out, trim
from edgetl.deployment.ansible import playbook_folder, program
from edgetl.runtime import Learner
from edgetl.runtime.device.installation import install
from edgetl.runtime.device.slots import Slots
from tests.deployment.server import Server, serving
from tests.deployment.test_deploy import with_statistics
from tests.emulation.tools import or_skip
from tests.runtime.device.installing import Releases, digest_of, teach_running
from tests.runtime.device.test_installation import with_swapped_labels
from tests.runtime.learning.states import frame

pytest.importorskip("ansible", reason="there is no Ansible here; install it: pip install 'edgetl[fleet]'")

NAMES = ("canary-1", "field-1")
INVENTORY = """\
[canary]
canary-1

[field]
field-1
[all:vars]
ansible_python_interpreter=python3
"""


@dataclass(frozen=True)
class Fleet:
    """Devices that each answer SSH at a port of their own, by their names in `config`."""

    folder: Path
    servers: dict[str, Server]

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def inventory(self) -> Path:
        return self.folder / "hosts.ini"

    def root(self, name: str) -> Path:
        return self.servers[name].home / ".local/share/edgetl"

    def running(self) -> list[str]:
        """The digests of what the devices run, "" for nothing, in their order."""
        slots = [Slots(self.root(name)).current for name in NAMES]
        return [slot.digest if slot else "" for slot in slots]

    def files(self) -> dict[str, float]:
        """Modification times of the files on the devices."""
        paths = [path for name in NAMES for path in self.root(name).rglob("*")]
        return {str(path): path.lstat().st_mtime for path in paths}

    def incoming(self) -> list[Path]:
        """Files that were sent to the devices and not removed."""
        return [path for name in NAMES for path in (self.root(name) / "incoming").glob("*")]

    def with_silent(self) -> Path:
        """An inventory that also has the device "silent", the field's first, which refuses connections."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        path = self.folder / "with_silent.ini"
        silent = f"silent ansible_host=127.0.0.1 ansible_port={port}\n"
        path.write_text(INVENTORY.replace("[field]\n", f"[field]\n{silent}"))
        return path

    def play(self, playbook: str, bundle: Path) -> str:
        """Run a playbook directly with Ansible; return its output."""
        command = [program("ansible-playbook"), playbook_folder() / playbook, "-i", self.inventory, "-e"]
        variables = json.dumps({"edgetl_bundle": str(bundle), "edgetl_waves": ["100%"]})
        ssh = f"--ssh-common-args=-F {self.config}"
        done = subprocess.run([*command, variables, ssh], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def roll_out(self, bundle: Path, **options: Any) -> dict[str, RolloutOutcome]:
        rollout = RolloutOptions(**{"inventory": self.inventory, "ssh_config": self.config, **options})
        return {outcome.host: outcome for outcome in roll_out(bundle, rollout)}


@contextmanager
def ansible_home() -> Iterator[None]:
    """A home of Ansible's own for what ssh keeps open to these servers, short as a socket's path must be."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSIBLE_HOME", home)
        patch.setenv("ANSIBLE_SSH_CONTROL_PATH_DIR", home)
        patch.setenv("ANSIBLE_TIMEOUT", "120")
        yield


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with or_skip(), ansible_home(), ExitStack() as stack:
        folder = tmp_path_factory.mktemp("fleet")
        servers = {name: stack.enter_context(serving(tmp_path_factory.mktemp(name))) for name in NAMES}
        config = "".join(server.config.read_text().replace("board", name) for name, server in servers.items())
        (folder / "config").write_text(config)
        (folder / "hosts.ini").write_text(INVENTORY)
        yield Fleet(folder, servers)


@pytest.fixture(scope="module")
def installed(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a device that runs the first release."""
    root = tmp_path_factory.mktemp("installed") / "edgetl"
    install(releases.first, root)
    return root


@pytest.fixture
def fleet(started: Fleet, installed: Path) -> Fleet:
    """The devices, each with the first release and nothing else."""
    for name in NAMES:
        for entry in ("slots", "incoming", "previous", "current"):
            path = started.root(name) / entry
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        shutil.copytree(installed, started.root(name), symlinks=True, dirs_exist_ok=True)
    return started


def states(outcomes: dict[str, RolloutOutcome]) -> list[str]:
    return [one.state for one in outcomes.values()]


def test_a_check_changes_nothing_and_reports_outdated_devices(fleet: Fleet, releases: Releases) -> None:
    install(releases.second, fleet.root("field-1"))
    before = fleet.files()
    outcomes = fleet.roll_out(releases.second, check=True, waves=["100%"])
    assert states(outcomes) == ["outdated", "unchanged"]
    assert fleet.files() == before


def test_every_device_is_updated_and_a_second_time_none_is(fleet: Fleet, releases: Releases) -> None:
    outcomes = fleet.roll_out(releases.second)
    assert states(outcomes) == ["updated"] * 2
    assert fleet.running() == [digest_of(releases.second)] * 2
    recap = fleet.play("deploy.yml", releases.second).partition("PLAY RECAP")[2]
    for name in NAMES:
        assert re.search(rf"^{name} .* changed=0 .*unreachable=0 .*failed=0 ", recap, re.MULTILINE)


def test_a_device_is_sent_only_what_it_lacks_unless_whole(
    fleet: Fleet, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    first = with_statistics(releases.first, tmp_path / "first.edgetl", 500)
    second = with_statistics(releases.second, tmp_path / "second.edgetl", 505)
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(INVENTORY.replace("field-1", "field-1 edgetl_whole=true"))
    trim(first, '{"slots": []}', tmp_path / "sent before")
    install(first, fleet.root("canary-1"))
    outcomes = fleet.roll_out(second, inventory=inventory)
    assert 0 < outcomes["canary-1"].sent_bytes < 0.2 * second.stat().st_size
    assert outcomes["field-1"].sent_bytes == second.stat().st_size
    assert [Slots(fleet.root(name)).running.read_bytes() for name in NAMES] == [second.read_bytes()] * 2
    assert not fleet.incoming()
    assert not list((tmp_path / "temporary").glob("edgetl-*"))


def test_a_bundle_that_fails_on_the_canaries_goes_no_further(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    outcomes = fleet.roll_out(with_swapped_labels(releases.second, tmp_path / "swapped.edgetl"))
    assert states(outcomes) == ["failed", "not reached"]
    assert "label" in outcomes["canary-1"].fault
    assert fleet.running() == [digest_of(releases.first)] * 2
    assert not fleet.incoming()


def test_a_device_that_does_not_answer_counts_as_a_failure(fleet: Fleet, releases: Releases) -> None:
    inventory = fleet.with_silent()
    strict = fleet.roll_out(releases.second, inventory=inventory, limit="field")
    assert {host: one.state for host, one in strict.items()} == {"silent": "failed", "field-1": "not reached"}
    assert fleet.running() == [digest_of(releases.first)] * 2
    lenient = fleet.roll_out(releases.second, inventory=inventory, waves=["100%"], max_fail_percentage=50)
    assert states(lenient) == ["updated", "failed", "updated"]
    assert "Connection refused" in lenient["silent"].fault


def test_the_rollback_playbook_returns_the_devices_that_run_a_bundle(fleet: Fleet, releases: Releases) -> None:
    install(releases.second, fleet.root("field-1"))
    fleet.play("rollback.yml", releases.second)
    assert fleet.running() == [digest_of(releases.first)] * 2


def test_what_several_devices_were_taught_is_merged(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        with teach_running(fleet.root(name)) as learner:
            learner.teach(frame("yellow", number), "yellow")
        with connect(name, ssh_config=fleet.config) as transport:
            pull(transport, tmp_path / "learned" / name)
    with Learner(releases.first, state=tmp_path / "here", threads=1) as learner:
        assert len(learner.merge(*sorted((tmp_path / "learned").iterdir())).pictures) == len(NAMES)


@pytest.mark.slow
def test_edgetl_is_installed_first_on_a_device_without_it(
    releases: Releases, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with or_skip(), ansible_home(), serving(tmp_path_factory.mktemp("bare")) as server:
        shutil.rmtree(server.home / ".local")
        (server.folder / "hosts.ini").write_text("board\n")
        options = RolloutOptions(server.folder / "hosts.ini", ssh_config=server.config)
        (outcome,) = roll_out(releases.first, options)
        if "cannot get the wheels" in outcome.fault:
            pytest.skip(outcome.fault)
        assert outcome == RolloutOutcome("board", "updated", sent_bytes=releases.first.stat().st_size)
        current = Slots(server.home / ".local/share/edgetl").current
        assert current is not None
        assert current.digest == digest_of(releases.first)


def test_the_playbooks_have_valid_syntax() -> None:
    folder = playbook_folder()
    command = [program("ansible-playbook"), "--syntax-check", "-i", folder / "hosts.ini"]
    done = subprocess.run([*command, *folder.glob("*.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
