"""Runs a real OpenSSH server on a loopback port, so that this machine can be deployed to as a device.

The server is the installed one, or one unpacked from its Debian package into the cache. It runs in its own mount
namespace, in which the user "pi" exists.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.emulation.debian import own_architecture, unpack
from tests.emulation.tools import UnavailableError, tell
from tests.models import CACHE

START_SECONDS = 20.0

CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""

CLIENT = """\
Host board
    HostName 127.0.0.1
    Port {port}
    User pi
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""

IN_NAMESPACE = """\
set -e
mount --bind "$0/passwd" /etc/passwd
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec "$@"
"""


@dataclass(frozen=True)
class Server:
    """A device that `config`, read instead of ~/.ssh/config, calls "board"."""

    folder: Path
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def home(self) -> Path:
        """The home of the user "pi", whose edgetl environment is the Python of these tests."""
        return self.folder / "home"


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run a server with its files in a folder. Raises UnavailableError if this machine cannot run one."""
    server = _prepare(folder)
    program, environment = _program()
    command = [program, "-D", "-e", "-f", str(folder / "server")]
    isolated = ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, str(folder), *command]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(isolated, env=environment, stdin=subprocess.DEVNULL, stderr=log)
    try:
        _wait_for_greeting(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()


def _prepare(folder: Path) -> Server:
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = Server(folder, free.getsockname()[1])
    for name in ("key", "host_key"):
        tell("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {(folder / 'host_key.pub').read_text()}")
    words = {"folder": folder, "port": server.port}
    (folder / "server").write_text(CONFIGURATION.format(**words))
    server.config.write_text(CLIENT.format(**words))
    accounts = f"sshd:*:65533:65534::/run/sshd:/bin/false\npi:*:{os.getuid()}:{os.getgid()}::{server.home}:/bin/sh\n"
    (folder / "passwd").write_text(accounts)
    python = server.home / ".local/share/edgetl/python/bin/python"
    python.parent.mkdir(parents=True)
    write_python(python)
    return server


def write_python(path: Path, variables: str = "") -> None:
    """Write a program that runs the Python of these tests with edgetl, and with these environment variables."""
    source = Path(__file__).resolve().parents[2]
    path.write_text(f'#!/bin/sh\nPYTHONPATH={source} {variables} exec {sys.executable} "$@"\n')
    path.chmod(0o755)


def _program() -> tuple[str, dict[str, str]]:
    """The path of the server program and the environment that it needs."""
    if os.geteuid() != 0:
        raise UnavailableError("a server with an account of its own needs root's rights")
    installed = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if installed:
        return installed, dict(os.environ)
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    folder = CACHE / f"sshd-{suite}-{own_architecture()}"
    if not folder.exists():
        beside = folder.with_name(f"{folder.name}.{os.getpid()}")
        unpack(beside, ["openssh-server"], own_architecture(), suite)
        with suppress(OSError):  # another process was faster
            beside.rename(folder)
    libraries = next(folder.glob("usr/lib/*-linux-gnu*"))
    return str(folder / "usr/sbin/sshd"), {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


def _wait_for_greeting(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=START_SECONDS) as client:
            if client.recv(4) == b"SSH-":
                return
        time.sleep(0.05)
    lines = (server.folder / "log").read_text().strip().splitlines() or ["its log is empty"]
    raise UnavailableError(f"the SSH server does not answer: {lines[-1]}")
