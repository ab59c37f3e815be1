"""Reads a photo's file into memory, but no pipe or device, which might never end."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from edgetl.errors import ImageError

FILE_LIMIT_BYTES = 512 * 1024 * 1024
"""Larger files are not read, because a file is read into memory as a whole."""


def read_regular_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        ImageError: it is a pipe or a device, or larger than FILE_LIMIT_BYTES.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("it is a pipe or a device, not a photo")
        if status.st_size > FILE_LIMIT_BYTES:
            raise ImageError(f"the file has {status.st_size} bytes, more than {FILE_LIMIT_BYTES}; scale the photo down")
        return file.read(FILE_LIMIT_BYTES)


def read_prefix(path: str | os.PathLike[str], count: int) -> bytes:
    """The first bytes of a file; empty for a pipe, a device, or a file that cannot be read."""
    with contextlib.suppress(OSError), open(path, "rb", opener=_open_without_waiting) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(count)
    return b""


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a pipe without waiting for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
