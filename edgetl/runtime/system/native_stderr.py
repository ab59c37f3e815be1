"""Silences what native libraries write directly to file descriptor 2, and keeps Python's sys.stderr working."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import Iterator, TextIO


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Redirects file descriptor 2 to /dev/null in the block, for the whole process; sys.stderr still reaches the user.

    Does nothing if standard error is closed.
    """
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, AttributeError, ValueError):
        yield
        return
    python_stderr = sys.stderr
    if _descriptor(python_stderr) == 2:
        unbuffered = io.FileIO(saved, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(unbuffered, python_stderr.encoding, python_stderr.errors, write_through=True)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        with suppress(OSError):  # a full disk must not hide the error that is reported next
            sys.stderr.flush()
        os.dup2(saved, 2)
        sys.stderr = python_stderr
        os.close(saved)


def _descriptor(stream: TextIO) -> int:
    try:
        return stream.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        return -1
