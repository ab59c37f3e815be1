"""How long each step of a build takes, and who is told of its progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from edgetl.progress import Progress


class Steps:
    """Seconds a step, in the order in which they were first measured."""

    def __init__(self, progress: Optional[Progress] = None) -> None:
        self.progress = progress
        self._seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Count the time of the block towards `step`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] = self._seconds.get(step, 0.0) + time.perf_counter() - started

    def seconds(self) -> dict[str, float]:
        """Seconds of each step so far, and the total, to the millisecond."""
        total = time.perf_counter() - self._started
        return {step: round(taken, 3) for step, taken in {**self._seconds, "total": total}.items()}
