"""Keeps TensorFlow's chatter off the terminal, the part that C++ writes straight to descriptor 2 included."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from edgetl.runtime.system import native_stderr_silenced

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
        with warnings.catch_warnings(), native_stderr_silenced():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
