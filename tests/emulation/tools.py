"""Runs tools of the host; if one is missing or fails, the tests that need it are skipped with the reason."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_SECONDS = 300


class UnavailableError(Exception):
    """Something cannot be emulated here; says why, in one line."""


def tell(*command: object, **variables: object) -> str:
    """What a command prints, run with these environment variables too. Raises UnavailableError where it fails."""
    words = [str(word) for word in command]
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    try:
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    except FileNotFoundError:
        raise UnavailableError(f"there is no {words[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{words[0]} did not end within {PATIENCE_SECONDS} s") from None
    if done.returncode:
        raise UnavailableError(f"{Path(words[0]).name} fails: {_complaint(done.stderr) or f'code {done.returncode}'}")
    return done.stdout


def _complaint(text: str) -> str:
    """The first line that is marked as an error, as apt's and pip's causes are, else the last one."""
    lines = text.strip().splitlines()
    return next((line for line in lines if line.startswith(("E: ", "ERROR: "))), lines[-1] if lines else "")


@contextmanager
def or_skip() -> Iterator[None]:
    """Skips the test, visibly, where what it needs cannot be emulated here."""
    try:
        yield
    except UnavailableError as reason:
        pytest.skip(f"no emulation here: {reason}")
