"""Shows predictions of `edgetl run`: as lines of text or JSON, or as a live table in a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Optional, Protocol

from edgetl.cli.console import echo, print_json
from edgetl.runtime.stream import RepeatedLines
from edgetl.text import for_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgetl.errors import ImageError
    from edgetl.runtime import Prediction

TOP = 5
"""Number of classes in the live table."""
BAR_WIDTH = 24
SUMMARY_SECONDS = 3600
"""Time between two summaries if only changes are printed."""
SAME_ERROR_SECONDS = 60.0
"""Least time between two reports of the same error if only changes are printed."""
MIN_CHANGE_SECONDS = 1.0
"""Least time between two changes, because the log of a flickering label would wear out an SD card."""
REFRESHES_PER_SECOND = 8


class Display(Protocol):
    """Shows predictions, one at a time."""

    def show(self, name: str, prediction: Prediction, age_ms: Optional[float] = None) -> None:
        """Show the prediction for an image; `age_ms` is the age of a camera's frame."""

    def report_error(self, name: str, error: ImageError) -> None:
        """Show that an image cannot be read."""


def open_display(as_json: bool, is_camera: bool, only_changes: bool = False) -> AbstractContextManager[Display]:
    """The display that fits standard output. In a terminal, a camera's images get no lines, only the table."""
    if only_changes:
        return Changes(_JsonLines() if as_json else _Lines())
    if as_json:
        return nullcontext(_JsonLines())
    if sys.stdout.isatty():
        return _LiveTable(prints_lines=not is_camera)
    return _Lines()


class _Log(Display, Protocol):
    """A display whose output is kept."""

    def sum_up(self, summary: dict[str, Any]) -> None:
        """Show the counts since the last summary."""


class Changes:
    """Passes a prediction on if its label or its novelty has changed, and a summary every hour.

    Use it as a context manager; it ends with a summary. `clock` returns seconds.
    """

    def __init__(self, log: _Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._shown: Optional[tuple[str, bool]] = None
        self._shown_at = 0.0
        self._error: Optional[str] = None
        self._error_at = 0.0
        self._oldest_ms = 0.0
        self._begin()

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._images or self._unreadable:
            self._sum_up()

    def show(self, name: str, prediction: Prediction, age_ms: Optional[float] = None) -> None:
        """Count an image, and show it if it is a change."""
        self._images[prediction.label] += 1
        self._novel += bool(prediction.is_novel)
        self._oldest_ms = max(self._oldest_ms, age_ms or 0.0)
        found, now = (prediction.label, bool(prediction.is_novel)), self._clock()
        if found != self._shown and (self._shown is None or now - self._shown_at >= MIN_CHANGE_SECONDS):
            self._shown, self._shown_at = found, now
            if age_ms is None:
                self._log.show(name, prediction)
            else:
                self._log.show(name, prediction, age_ms)
        if now - self._since >= SUMMARY_SECONDS:
            self._sum_up()

    def report_error(self, name: str, error: ImageError) -> None:
        """Count an image that cannot be read, and show the error; the same error once a minute."""
        self._unreadable += 1
        now, text = self._clock(), str(error)
        if text != self._error or now - self._error_at >= SAME_ERROR_SECONDS:
            self._error, self._error_at = text, now
            self._log.report_error(name, error)

    def _begin(self) -> None:
        self._since = self._clock()
        self._images: Counter[str] = Counter()
        self._novel, self._unreadable = 0, 0
        self._oldest_ms = 0.0

    def _sum_up(self) -> None:
        summary: dict[str, Any] = {
            "seconds": round(self._clock() - self._since, 1),
            "images": sum(self._images.values()),
            "labels": dict(self._images.most_common()),
            "novel": self._novel,
            "unread": self._unreadable,
        }
        if self._oldest_ms:
            summary["oldest_frame_ms"] = round(self._oldest_ms, 1)
        self._log.sum_up(summary)
        self._begin()


class _JsonLines:
    """Prints one JSON object per line, immediately."""

    def show(self, name: str, prediction: Prediction, age_ms: Optional[float] = None) -> None:
        line = {
            "source": name,
            "label": prediction.label,
            "probability": round(float(prediction.probability), 6),
            "novelty": round(float(prediction.novelty), 6),
            "is_novel": bool(prediction.is_novel),
            "ms": round(prediction.milliseconds["total"], 3),
        }
        print_json(line if age_ms is None else {**line, "age_ms": round(age_ms, 1)})

    def report_error(self, name: str, error: ImageError) -> None:
        print_json({"source": name, "error": str(error)})

    def sum_up(self, summary: dict[str, Any]) -> None:
        print_json({"summary": summary})


class _Lines:
    """Prints one line per image; errors go to standard error, the same one once a minute."""

    def __init__(self) -> None:
        self._errors = RepeatedLines(lambda line: echo(line, err=True))

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: Any) -> None:
        self._errors.finish()

    def show(self, name: str, prediction: Prediction, age_ms: Optional[float] = None) -> None:
        echo(_line(name, prediction))

    def report_error(self, name: str, error: ImageError) -> None:
        self._errors.add(str(error))

    def sum_up(self, summary: dict[str, Any]) -> None:
        labels = ", ".join(f"{label} {count:,}" for label, count in summary["labels"].items())
        echo(
            f"in {summary['seconds'] / 60:.0f} minutes {summary['images']:,} images: {labels or 'none'}; "
            f"{summary['novel']:,} unlike every class, {summary['unread']:,} unreadable"
        )


class _LiveTable:
    """Shows the most probable classes of the latest image in place, below a line for each image."""

    def __init__(self, prints_lines: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._prints_lines = prints_lines
        self._latest: Optional[tuple[str, Prediction]] = None
        self._age_ms: Optional[float] = None
        self._images: Counter[str] = Counter()
        self._started = time.monotonic()
        self._errors = RepeatedLines(self._print)
        console = Console()
        self._live = Live(
            console=console,
            get_renderable=self._latest_image,
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stdout=False,
        )

    def __enter__(self) -> _LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._errors.finish()
        self._live.stop()

    def show(self, name: str, prediction: Prediction, age_ms: Optional[float] = None) -> None:
        self._images[prediction.label] += 1
        self._latest, self._age_ms = (name, prediction), age_ms
        if self._prints_lines:
            self._print(_line(name, prediction))

    def report_error(self, name: str, error: ImageError) -> None:
        self._errors.add(str(error))

    def _print(self, line: str) -> None:
        from rich.text import Text

        self._live.console.print(Text(for_terminal(line)), soft_wrap=True)

    def _latest_image(self) -> RenderableType:
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if self._latest is None:
            return Text("waiting for the first image", style="dim")
        name, prediction = self._latest
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for title in ("class", "probability", "", "images"):
            table.add_column(title)
        for label, probability in prediction.top(TOP):
            bar = for_terminal("█" * round(probability * BAR_WIDTH))
            cells = (for_terminal(label), f"{probability:6.1%}", f"{bar:{BAR_WIDTH}}", str(self._images[label]))
            table.add_row(*map(Text, cells))
        rate = sum(self._images.values()) / (time.monotonic() - self._started)
        unusual = ", unlike every class" if prediction.is_novel else ""
        age = "" if self._age_ms is None else f", frame {self._age_ms:.0f} ms old"
        about = f"{name}{unusual}: {prediction.milliseconds['total']:.1f} ms, {rate:.1f} images per second{age}"
        return Group(table, Text(for_terminal(about), style="dim"))


def _line(name: str, prediction: Prediction) -> str:
    unusual = "  (unlike every class)" if prediction.is_novel else ""
    return f"{name}: {prediction.label} {prediction.probability:.1%}{unusual}"
