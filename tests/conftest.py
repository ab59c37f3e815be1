"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = [
    "tests.conversion.edgetpu.pairs",
    "tests.emulation.device",
    "tests.models",
    "tests.pipeline.builds",
    "tests.pythons",
    "tests.runtime.device.installing",
    "tests.runtime.learning.states",
]
"""Fixtures that several folders use. They build what they give on first use."""
pytest.register_assert_rewrite(*pytest_plugins)  # before one of them imports another

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETL_SHARED", REPOSITORY.parent / "shared"))

# A shell lets background processes and their children ignore Ctrl-C; the tests need the default handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of a real data set or weights file; skips the test visibly if it is missing."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"{name} is not under {SHARED}; set EDGETL_SHARED to the folder that contains it")
        return path

    return find
