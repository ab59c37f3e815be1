"""Runs a whole emulated board that answers SSH, as the fixture `device`.

It needs root's rights and Linux 6.7.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.emulation.machines import ARM64, Machine
from tests.emulation.namespace import NAME, REFUSED
from tests.emulation.root import emulator, root
from tests.emulation.tools import UnavailableError, or_skip, tell

HOST = "127.0.0.1"
START_SECONDS = 60.0
PATIENCE_SECONDS = 180

SERVER = """\
Port {port}
ListenAddress {host}
HostKey /etc/ssh/host_key
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
SetEnv QEMU_CPU={processor}
"""

CLIENT = """\
Host device
    HostName {host}
    Port {port}
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    StrictHostKeyChecking yes
    BatchMode yes
"""


@dataclass(frozen=True)
class Device:
    """An emulated Raspberry Pi that answers SSH, and no host but this one."""

    host: str
    port: int
    user: str
    """"pi", as on a fresh Raspberry Pi OS; the key is accepted for "root" too."""
    key: Path
    """The private key that logs in."""
    known_hosts: Path
    """In the form of ~/.ssh/known_hosts: the device's own key."""
    config: Path
    """In the form of ~/.ssh/config: `ssh -F CONFIG device` logs in."""
    root: Path
    """The device's "/", as this host sees it."""

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command in the user's shell there, to its end."""
        return subprocess.run(
            ["ssh", "-F", str(self.config), "device", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A 64-bit Raspberry Pi as it comes from its first start: Python, SSH, and nothing of edgetl."""
    with or_skip(), running(ARM64, tmp_path_factory.mktemp("device")) as started:
        yield started


@contextmanager
def running(machine: Machine, folder: Path) -> Iterator[Device]:
    """A device whose files lie in a folder, until the block ends; then neither is left.

    Raises UnavailableError where this host cannot run one.
    """
    if os.geteuid() != 0:
        raise UnavailableError("a whole device needs root's rights")
    try:
        made, log = _prepare(machine, folder), folder / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(_command(machine, made), stdin=subprocess.DEVNULL, stderr=stderr)
        try:
            _wait_for_greeting(made, process, log)
            yield made
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _prepare(machine: Machine, folder: Path) -> Device:
    """The files of a device and of those who log in to it."""
    place = folder / "root"
    tell("cp", "--archive", "--reflink=auto", root(machine), place)
    for name in ("key", "host_key"):
        tell("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    made = Device(
        host=HOST,
        port=_free_port(),
        user="pi",
        key=folder / "key",
        known_hosts=folder / "known_hosts",
        config=folder / "config",
        root=place,
    )
    host_key = (folder / "host_key.pub").read_text()
    made.known_hosts.write_text(f"[{made.host}]:{made.port} {host_key}")
    made.config.write_text(CLIENT.format(**vars(made)))
    shutil.copy2(folder / "host_key", place / "etc/ssh/host_key")
    (place / "etc/ssh/server").write_text(SERVER.format(**vars(made), processor=machine.processor))
    (place / "etc/hostname").write_text(f"{NAME}\n")
    (place / "etc/hosts").write_text(f"{HOST} localhost {NAME}\n")
    shutil.copytree(place / "etc/skel", place / "home/pi")
    for home, owner in (("root", 0), ("home/pi", 1000)):
        _let_in(made.key, place / home, owner)
    return made


def _let_in(key: Path, home: Path, owner: int) -> None:
    """The owner of a home may log in with a key."""
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(key.with_suffix(".pub"), home / ".ssh/authorized_keys")
    for path in (home, *home.rglob("*")):
        os.chown(path, owner, owner)


def _command(machine: Machine, device: Device) -> list[str]:
    namespace = [sys.executable, Path(__file__).with_name("namespace.py"), device.root]
    emulation = [emulator(machine), machine.elf_class, machine.elf_machine]
    return [str(word) for word in (*namespace, *emulation, "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/server")]


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def _wait_for_greeting(device: Device, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the device answers as an SSH server does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((device.host, device.port), timeout=START_SECONDS) as client:
            if client.recv(4) == b"SSH-":
                return
        time.sleep(0.1)
    if process.poll() == REFUSED:
        raise UnavailableError(log.read_text().strip())
    raise RuntimeError(f"the SSH server of the emulated device does not answer: {log.read_text()}")
