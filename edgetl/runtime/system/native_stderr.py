"""Hides what native libraries write straight to standard error; the CLI and the conversion call it."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def native_stderr_aside() -> Iterator[None]:
    """Points descriptor 2 at nowhere in the block; Python's own sys.stderr keeps the old one. Process-wide."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):
        yield
        return
    python_stderr = sys.stderr
    if _descriptor(python_stderr) == 2:
        unbuffered = io.FileIO(kept, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(unbuffered, python_stderr.encoding, write_through=True)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        sys.stderr = python_stderr
        os.close(kept)


def _descriptor(stream: object) -> int:
    try:
        return stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, io.UnsupportedOperation):
        return -1
