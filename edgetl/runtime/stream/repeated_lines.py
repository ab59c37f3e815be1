"""Limits how often the same line is reported, and counts what was left out."""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, Hashable, List, Optional

EVERY_SECONDS = 60.0
"""Least time between two reports of the same kind, because a log on an SD card must last."""

KINDS_LIMIT = 1000
"""Kinds of lines that are remembered; beyond that, the oldest may be reported again."""


class RepeatedLines:
    """Reports a line the first time, and then at most once every `every_s` seconds with a count.

    Thread-safe. `report` receives each line; `clock` returns seconds.
    """

    def __init__(
        self,
        report: Callable[[str], object],
        every_s: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: Dict[Hashable, _Kind] = {}

    def add(self, line: str, kind: Optional[Hashable] = None) -> None:
        """Report a line, or count it; lines of the same `kind` are the same, by default those with the same text."""
        with self._lock:
            key, now = line if kind is None else kind, self._clock()
            known = self._kinds.get(key)
            if known is not None and now - known.reported_at < self._every_s:
                known.left_out += 1
                known.line = line
                return
            self._kinds.pop(key, None)
            self._kinds[key] = _Kind(line, now)
            while len(self._kinds) > KINDS_LIMIT:
                self._report_count(self._kinds.pop(next(iter(self._kinds))))
            self._report(_with_count(line, known.left_out if known else 0))

    def finish(self) -> None:
        """Report the counts of the lines that were left out."""
        with self._lock:
            remaining: List[_Kind] = list(self._kinds.values())
            self._kinds.clear()
            for kind in remaining:
                self._report_count(kind)

    def _report_count(self, kind: _Kind) -> None:
        if kind.left_out:
            self._report(_with_count(kind.line, kind.left_out - 1))


class _Kind:
    """Lines of one kind since the last report."""

    def __init__(self, line: str, reported_at: float) -> None:
        self.line = line
        self.reported_at = reported_at
        self.left_out = 0


def _with_count(line: str, more: int) -> str:
    return f"{line} (and {more:,} more like it)" if more else line
