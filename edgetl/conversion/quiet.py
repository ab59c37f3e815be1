"""Keeps TensorFlow's chatter off the terminal, the part that C++ writes straight to descriptor 2 included."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("tensorflow", "absl")


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Silences TensorFlow in the block; what Python itself writes to stderr, such as progress, still appears.

    Process-wide while it lasts. Exceptions pass through: they carry what went wrong.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _native_stderr_aside():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _native_stderr_aside() -> Iterator[None]:
    """Points descriptor 2 at nowhere; Python's own sys.stderr keeps the old one."""
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
