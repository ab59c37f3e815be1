"""Stops a long-running verb on a signal, between two steps and never within one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from edgetl.cli import INTERRUPTED

_EXIT_CODES = {signal.SIGTERM: 0, signal.SIGINT: INTERRUPTED}
"""A service manager expects 0 when it stops a service, a shell expects 130 after Ctrl-C."""


@contextmanager
def tidy_when_terminated() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the with block by SystemExit, so that half-written files are removed."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)


class GracefulStop:
    """Lets SIGTERM and Ctrl-C end the with block by SystemExit: after the current step, or at once the second time."""

    def __init__(self) -> None:
        self._is_in_step = False
        self._exit_code: Optional[int] = None

    def __enter__(self) -> GracefulStop:
        self._former = {number: signal.signal(number, self._receive) for number in _EXIT_CODES}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A block that the first signal does not interrupt."""
        self._is_in_step = True
        try:
            yield
        finally:
            self._is_in_step = False
        if self._exit_code is not None:
            raise SystemExit(self._exit_code)

    def _receive(self, number: int, _: object) -> None:
        is_first = self._exit_code is None
        self._exit_code = _EXIT_CODES[signal.Signals(number)]
        if not (self._is_in_step and is_first):
            raise SystemExit(self._exit_code)
