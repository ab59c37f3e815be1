"""Reads and writes files of a device. Its source is run there without edgetl; it uses the standard library only.

The bytes of a file pass through standard input and output.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys

BLOCK_BYTES = 1 << 18
READY = "\n"
"""Printed before input is read."""


def hold(name: str) -> dict[str, object]:
    """The size and the SHA-256 of a regular file; 0 bytes if there is none."""
    digest, size = hashlib.sha256(), 0
    if os.path.isfile(name):
        with open(name, "rb") as file:
            for block in iter(lambda: file.read(BLOCK_BYTES), b""):
                digest.update(block)
                size += len(block)
    return {"size": size, "sha256": digest.hexdigest()}


def append(name: str, held: int) -> dict[str, object]:
    """Write standard input after the first `held` bytes of a file, through to the disk."""
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "r+b" if held else "wb", buffering=0) as file:
        file.seek(held)
        file.truncate()  # not at the end: after a broken connection, an earlier call may still write what it received
        sys.stdout.write(READY)
        sys.stdout.flush()
        for block in iter(lambda: os.read(0, BLOCK_BYTES), b""):
            file.write(block)
        os.fsync(file.fileno())
        return {"size": file.tell()}


def read(name: str) -> None:
    """Write a regular file to standard output."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(0, "it is not a regular file")
    with open(descriptor, "rb") as file:
        for block in iter(lambda: file.read(BLOCK_BYTES), b""):
            sys.stdout.buffer.write(block)


def remove(name: str) -> dict[str, object]:
    """Remove a file if it exists."""
    existed = os.path.lexists(name)
    if existed:
        os.unlink(name)
    return {"removed": existed}


def main(verb: str, name: str, held: str = "0") -> None:
    """Run one verb and print its answer."""
    if verb == "read":
        return read(name)
    answer = hold(name) if verb == "hold" else append(name, int(held)) if verb == "append" else remove(name)
    sys.stdout.write(json.dumps(answer))
    return None


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}\n")
        sys.exit(3)
