"""Measures how long each step of a build takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from edgetl.progress import Progress


class StepTimes:
    """Seconds per step, in the order in which the steps were first measured.

    `progress` is the build's progress callback, for the functions that a step calls.
    """

    def __init__(self, progress: Optional[Progress] = None) -> None:
        self.progress = progress
        self._seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Add the duration of the block to `step`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] = self._seconds.get(step, 0.0) + time.perf_counter() - started

    def seconds(self) -> dict[str, float]:
        """Seconds per step so far and in total, rounded to milliseconds."""
        total = time.perf_counter() - self._started
        return {step: round(taken, 3) for step, taken in {**self._seconds, "total": total}.items()}
