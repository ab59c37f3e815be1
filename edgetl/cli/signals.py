"""How a verb that may run for ever is stopped: between two steps, never within one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from edgetl.cli import INTERRUPTED

_EXIT_CODES = {signal.SIGTERM: 0, signal.SIGINT: INTERRUPTED}
"""A service manager that stops a service expects 0, a shell whose user presses Ctrl-C 130."""


@contextmanager
def tidy_when_terminated() -> Iterator[None]:
    """SIGTERM, and a terminal that hangs up, end the with block like Ctrl-C: what is half-written goes."""
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
    """SIGTERM and Ctrl-C end the with block by SystemExit: at once, or after the step in hand; a second one at once."""

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
