"""Looks up the keys of hosts in known_hosts files, and adds new ones without changing the other lines."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

import asyncssh

from edgetl.errors import DeviceError

READ_BYTES = 16 << 20
"""How much of a known_hosts file is read."""


def read_known_hosts(paths: Iterable[Path]) -> asyncssh.SSHKnownHosts:
    """The keys in files; a file that does not exist and a line that cannot be read are skipped."""
    lines: list[str] = []
    for path in paths:
        if path.is_file():
            with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
                lines += file.read(READ_BYTES).splitlines()
    return asyncssh.import_known_hosts("\n".join(line for line in lines if _is_readable(line)))


def is_known(known: asyncssh.SSHKnownHosts, host: str, port: int) -> bool:
    """Whether any key, valid or revoked, is known for a host."""
    return any(asyncssh.match_known_hosts(known, host, "", port)[:3])


def add_key(path: Path, host: str, port: int, key: asyncssh.SSHKey, hashed: bool) -> None:
    """Append a key to a file, on a line of its own; create the file and its folder if necessary.

    Raises:
        DeviceError: the file cannot be written.
    """
    name = host if port == 22 else f"[{host}]:{port}"
    words = key.export_public_key().decode().split()[:2]
    line = " ".join([_hash(name) if hashed else name, *words]) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write((b"" if _ends_a_line(path) else b"\n") + line.encode())
    except OSError as error:
        raise DeviceError(
            f"cannot add the key of {host} to {path}: {error.strerror or error}; check the file, or choose another: "
            "UserKnownHostsFile"
        ) from error


def _ends_a_line(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _hash(name: str) -> str:
    """The name of a host as `HashKnownHosts` stores it: HMAC-SHA1 with a random salt."""
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _is_readable(line: str) -> bool:
    try:
        asyncssh.import_known_hosts(line)
    except (ValueError, IndexError):
        return False
    return True
