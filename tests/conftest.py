"""Fixtures every room's tests may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["tests.models", "tests.pythons"]

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETL_SHARED", REPOSITORY.parent / "shared"))

# In the background of a shell, processes and their children are told that Ctrl-C is not for them; in tests it is.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of a real data set or weights file, or a visible skip where it is not at hand."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"{name} is not under {SHARED}; set EDGETL_SHARED to the folder that holds it")
        return path

    return find
