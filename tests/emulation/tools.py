"""Hides that a tool of the host may be missing or fail: then there is no emulation, and the tests say why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_SECONDS = 300


class UnavailableError(Exception):
    """Something cannot be emulated here; says why, in one line."""


def tell(*command: object) -> str:
    """What a command prints. Raises UnavailableError, with its last line of complaint, where it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        raise UnavailableError(f"there is no {words[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{words[0]} did not end within {PATIENCE_SECONDS} s") from None
    if done.returncode:
        complaints = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(f"{Path(words[0]).name} fails: {complaints[-1]}")
    return done.stdout


@contextmanager
def or_skip() -> Iterator[None]:
    """Skips the test, visibly, where what it needs cannot be emulated here."""
    try:
        yield
    except UnavailableError as reason:
        pytest.skip(f"no emulation here: {reason}")
