"""A whole emulated Raspberry Pi: people and programs of this host log in to it, and it goes without leaving a trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.emulation.device import Device, running
from tests.emulation.machines import ARMHF, REPOSITORY
from tests.emulation.tools import or_skip

pytestmark = pytest.mark.slow

START_PROGRAMS = (
    "import platform, subprocess as s; print(platform.machine(), s.check_output(['uname', '-m'], text=True))"
)

LAST = """
import sys, time
from pathlib import Path
from tests.emulation.device import running
from tests.emulation.machines import ARM64
with running(ARM64, Path(sys.argv[1])) as device:
    print(device.ssh("nohup sleep 1000 >/dev/null 2>&1 & echo started").stdout, flush=True)
    time.sleep(1000)
"""


def test_a_command_runs_as_the_user_of_a_raspberry_pi(device: Device) -> None:
    done = device.ssh("uname -m; id -un; hostname; echo $HOME; grep ^ID= /etc/os-release")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["aarch64", "pi", "raspberrypi", "/home/pi", "ID=debian"]


def test_python_there_starts_programs(device: Device) -> None:
    done = device.ssh(f'python3 -c "{START_PROGRAMS}"')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["aarch64", "aarch64"]


def test_an_exit_code_and_a_complaint_come_back(device: Device) -> None:
    done = device.ssh("cat /nowhere; exit 7")
    assert done.returncode == 7
    assert "/nowhere: No such file" in done.stderr


def test_files_go_there_and_come_back(device: Device, tmp_path: Path) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(os.urandom(100_000))
    scp = ["scp", "-q", "-F", device.config]
    subprocess.run([*scp, sent, "device:kept"], check=True)
    subprocess.run([*scp, "device:kept", received], check=True)
    assert received.read_bytes() == sent.read_bytes() == (device.root / "home/pi/kept").read_bytes()


def test_root_may_log_in_too_and_nobody_without_the_key(device: Device, tmp_path: Path) -> None:
    ssh = ["ssh", "-F", device.config, "-l", "root", "device", "id", "-un"]
    assert subprocess.run(ssh, capture_output=True, text=True).stdout == "root\n"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    config = tmp_path / "config"
    config.write_text(device.config.read_text().replace(str(device.key), str(tmp_path / "other")))
    refused = subprocess.run(["ssh", "-F", config, "device", "true"], capture_output=True, text=True)
    assert "Permission denied (publickey)" in refused.stderr


def test_a_32_bit_one_runs_too_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    with or_skip(), running(ARMHF, folder) as small:
        done = small.ssh("nohup sleep 1000 >/dev/null 2>&1 & uname -m; python3 -c 'import numpy, PIL'")
        assert (done.stdout, done.stderr) == ("armv7l\n", "")
        assert _processes_in(small.root)
    assert _processes_in(small.root) == []
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((small.host, small.port), timeout=5)


@pytest.mark.usefixtures("device")  # which skips where there can be none
def test_a_device_ends_with_the_killed_process_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", LAST, folder], stdout=subprocess.PIPE, cwd=REPOSITORY) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        assert _processes_in(folder / "root")
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _processes_in(folder / "root") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _processes_in(folder / "root") == []
    shutil.rmtree(folder)


def _processes_in(root: Path) -> list[int]:
    """The processes whose "/" is that folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "root") == str(root):
                found.append(int(process.name))
    return found
