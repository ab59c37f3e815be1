"""edgetl is installed on a device that can run it; for any other, one line says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import connect
from edgetl.deployment.provisioning import Machine, environment, prepare, probe_machine
from edgetl.deployment.provisioning.probe import probe
from edgetl.deployment.provisioning.unpack import unpack
from edgetl.deployment.transport import Answer, SshTransport
from edgetl.errors import DeviceError
from tests.deployment.server import Server


@pytest.fixture
def transport(server: Server) -> Iterator[SshTransport]:
    with connect("board", ssh_config=server.config) as opened:
        assert isinstance(opened, SshTransport)
        yield opened


def machine(**changes: Any) -> Machine:
    pi = {
        "python": (3, 11),
        "architecture": "armv7l",
        "glibc": "2.36",
        "system": "Raspbian GNU/Linux 12 (bookworm)",
        "board": "Raspberry Pi 3 Model B Rev 1.2",
        "memory_bytes": 1 << 30,
        "free_bytes": 1 << 33,
        "packages": ("PIL", "numpy"),
        "environment": None,
        "edgetpus": 0,
        "edgetpu_runtime": None,
    }
    return Machine(**{**pi, **changes})


def test_probing_a_device_reports_what_it_is(transport: SshTransport) -> None:
    found = probe_machine(transport)
    assert found.python >= (3, 9)
    assert found.memory_bytes > 0
    assert not found.is_32_bit_arm


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"free_bytes": 1000}, "edgetl needs 400 MB: free some space"),
        ({"packages": ("numpy",)}, "sudo apt install python3-numpy python3-pil"),
        ({"architecture": "armv6l"}, "no TFLite interpreter for armv6l with Python 3.11; install a 64-bit"),
        ({"python": (3, 13)}, "no TFLite interpreter for armv7l with Python 3.13; install a 64-bit"),
    ],
    ids=["full", "packages", "armv6l", "python"],
)
def test_an_obstacle_is_one_line(
    transport: SshTransport, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], complaint: str
) -> None:
    monkeypatch.setattr(environment, "probe_machine", lambda _: machine(**changes))
    with pytest.raises(DeviceError, match=complaint):
        prepare(transport)


def test_a_device_without_python_gets_the_command_that_installs_it(
    transport: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_execute", lambda *_: Answer(127, "", "sh: 1: python3: not found"))
    with pytest.raises(DeviceError, match="board has no python3; install it there: sudo apt install python3"):
        probe_machine(transport)


def test_an_old_python_is_one_line(transport: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    old = json.loads(json.dumps(machine(python=(3, 7)).to_dict()))
    monkeypatch.setattr(transport, "run_module", lambda *_: old)
    with pytest.raises(DeviceError, match=r"board has Python 3.7; edgetl needs 3.9 or newer there"):
        prepare(transport)


def test_pip_installs_the_wheel_of_this_edgetl(tmp_path: Path) -> None:
    wheel = environment._pack_own_wheel(tmp_path)
    content = wheel.read_bytes()
    assert environment._pack_own_wheel(tmp_path).read_bytes() == content
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(tmp_path / "there"), str(wheel)], check=True, capture_output=True)
    code = "import edgetl.runtime, edgetl.cli; assert 'there' in edgetl.runtime.__file__"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path / "there")


def test_the_link_switches_to_an_environment_once_it_is_complete(tmp_path: Path) -> None:
    folder, wheel = tmp_path / "edgetl", environment._pack_own_wheel(tmp_path)
    folder.mkdir()
    for digest in ("first", "second", "third"):
        unpack(str(folder), digest, False, [str(wheel)])
        assert (folder / "python").readlink() == Path("environments", digest)
        assert probe(str(folder))["environment"] is None, "it lacks its dependencies, so it does not run"
    assert sorted(path.name for path in (folder / "environments").iterdir()) == ["second", "third"]
    code = "import edgetl; print(edgetl.__file__)"
    python = folder / "python/bin/python"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith(str(folder))
    assert (folder / "python/bin/edgetl").read_text().startswith(f"#!{folder}/environments/third/bin/python")
