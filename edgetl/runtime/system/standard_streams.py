"""Opens standard streams that the caller has closed, so that no other file takes their place."""

from __future__ import annotations

import os
import sys

_NAMES = ("stdin", "stdout", "stderr")


def open_standard_streams() -> None:
    """Connects each closed standard stream to /dev/null.

    Otherwise the next file that is opened would get its descriptor, and what a library prints would go into that file.
    """
    for descriptor, name in enumerate(_NAMES):
        if getattr(sys, name) is None:
            _connect_to_null(descriptor)
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _connect_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == descriptor:
        os.set_inheritable(null, True)
    else:
        os.dup2(null, descriptor)
        os.close(null)
