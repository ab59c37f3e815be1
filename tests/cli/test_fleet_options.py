"""Deploying to a fleet by the command line prints the outcome for each device, or one line of what is wrong."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from subprocess import run

import pytest

from tests.cli.test_command_line import edgetl
from tests.conftest import REPOSITORY
from tests.runtime.device.installing import Releases, digest_of


@pytest.fixture(autouse=True)
def ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ansible", reason="there is no Ansible here; install it: pip install 'edgetl[fleet]'")
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "ansible"))


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Two devices in folders of this machine; the second one's cannot be made."""
    (tmp_path / "broken").write_text("no folder")
    path = tmp_path / "hosts.ini"
    path.write_text(
        f"whole edgetl_root={tmp_path}/device\nbroken edgetl_root={tmp_path}/broken\n[all:vars]\n"
        f"ansible_connection=local\nansible_python_interpreter={sys.executable}\nedgetl_python={sys.executable}\n"
    )
    return path


def test_the_outcome_for_each_device_is_printed(releases: Releases, inventory: Path, tmp_path: Path) -> None:
    failed = edgetl("deploy", releases.first, "--inventory", inventory, "--limit", "broken")
    assert failed.returncode == 1, failed.stderr
    *table, summary = failed.stdout.splitlines()
    assert ["broken", "failed"] in [line.split()[:2] for line in table]
    assert f"{tmp_path}/broken/settings.json" in failed.stdout
    assert summary == "1 failed"
    done = edgetl("deploy", releases.first, "--inventory", inventory, "--limit", "whole", "--json")
    assert done.returncode == 0, done.stderr
    size_bytes = releases.first.stat().st_size
    assert json.loads(done.stdout) == [{"host": "whole", "state": "updated", "fault": "", "sent_bytes": size_bytes}]
    assert (tmp_path / "device/current").resolve().name == digest_of(releases.first)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no device given; name one as [USER@]HOST[:PORT], or a fleet: --inventory hosts.ini"),
        (["./device", "--limit", "field"], "need --inventory"),
        (["./device", "--inventory", "hosts.ini"], "--inventory cannot be combined with HOST"),
        (["--inventory", "nowhere.ini"], "inventory not found: nowhere.ini"),
        (["--inventory", "hosts.ini", "--waves", "1,few"], "invalid wave 'few': expected numbers"),
        (["--inventory", "hosts.ini", "--limit", "nobody"], "hosts.ini contains no device that matches 'nobody'"),
        (["--inventory", "broken.ini"], "Ansible cannot read broken.ini"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    releases: Releases, inventory: Path, arguments: list[str], complaint: str
) -> None:
    (inventory.parent / "broken.ini").write_text("[field")
    done = edgetl("deploy", releases.first, *arguments, cwd=inventory.parent)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_ansible_is_named_with_its_extra(
    releases: Releases, inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    done = edgetl("deploy", releases.first, "--inventory", inventory)
    assert done.returncode == 2
    missing = "deploying to an inventory needs ansible-core. Install it: pip install 'edgetl[fleet]'"
    assert done.stderr == f"edgetl: {missing}\n"


def test_an_installed_wheel_has_the_playbook(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    run([sys.executable, "-c", build, tmp_path], cwd=REPOSITORY, capture_output=True, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "installed")
    ask = "from edgetl.deployment.ansible import playbook_folder; print(playbook_folder())"
    done = run([sys.executable, "-c", ask], cwd=tmp_path / "installed", capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "installed")
    source = REPOSITORY / "examples" / "fleet"
    carried = {path.relative_to(folder) for path in folder.rglob("*.*")}
    assert {path.relative_to(source) for path in source.rglob("*.yml")} < carried
    assert Path("callback_plugins/edgetl_events.py") in carried
