"""Keeps TensorFlow's messages off the terminal, including those that C++ writes directly to descriptor 2."""

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
    """Silence TensorFlow within the block; Python's own output to stderr, e.g. progress, still appears.

    It affects the whole process. Exceptions pass through, with TensorFlow's message.
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
