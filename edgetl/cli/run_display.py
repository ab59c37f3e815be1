"""Shows predictions of `edgetl run`: as lines of text or JSON, or as a live table in a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Optional, Protocol

from edgetl.cli.console import echo, print_json
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
MIN_CHANGE_SECONDS = 1.0
"""Least time between two changes, because the log of a flickering label would wear out an SD card."""
REFRESHES_PER_SECOND = 8


class Display(Protocol):
    """Shows predictions, one at a time."""

    def show(self, name: str, prediction: Prediction) -> None:
        """Show the prediction for an image."""

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
    return nullcontext(_Lines())


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
        self._begin()

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._images or self._unreadable:
            self._sum_up()

    def show(self, name: str, prediction: Prediction) -> None:
        """Count an image, and show it if it is a change."""
        self._images[prediction.label] += 1
        self._novel += bool(prediction.is_novel)
        found, now = (prediction.label, bool(prediction.is_novel)), self._clock()
        if found != self._shown and (self._shown is None or now - self._shown_at >= MIN_CHANGE_SECONDS):
            self._shown, self._shown_at = found, now
            self._log.show(name, prediction)
        if now - self._since >= SUMMARY_SECONDS:
            self._sum_up()

    def report_error(self, name: str, error: ImageError) -> None:
        """Count an image that cannot be read, and show the error."""
        self._unreadable += 1
        self._log.report_error(name, error)

    def _begin(self) -> None:
        self._since = self._clock()
        self._images: Counter[str] = Counter()
        self._novel, self._unreadable = 0, 0

    def _sum_up(self) -> None:
        self._log.sum_up(
            {
                "seconds": round(self._clock() - self._since, 1),
                "images": sum(self._images.values()),
                "labels": dict(self._images.most_common()),
                "novel": self._novel,
                "unread": self._unreadable,
            }
        )
        self._begin()


class _JsonLines:
    """Prints one JSON object per line, immediately."""

    def show(self, name: str, prediction: Prediction) -> None:
        print_json(
            {
                "source": name,
                "label": prediction.label,
                "probability": round(float(prediction.probability), 6),
                "novelty": round(float(prediction.novelty), 6),
                "is_novel": bool(prediction.is_novel),
                "ms": round(prediction.milliseconds["total"], 3),
            }
        )

    def report_error(self, name: str, error: ImageError) -> None:
        print_json({"source": name, "error": str(error)})

    def sum_up(self, summary: dict[str, Any]) -> None:
        print_json({"summary": summary})


class _Lines:
    """Prints one line per image; errors go to standard error."""

    def show(self, name: str, prediction: Prediction) -> None:
        echo(_line(name, prediction))

    def report_error(self, name: str, error: ImageError) -> None:
        echo(str(error), err=True)

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
        self._images: Counter[str] = Counter()
        self._started = time.monotonic()
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
        self._live.stop()

    def show(self, name: str, prediction: Prediction) -> None:
        self._images[prediction.label] += 1
        self._latest = name, prediction
        if self._prints_lines:
            self._print(_line(name, prediction))

    def report_error(self, name: str, error: ImageError) -> None:
        self._print(str(error))

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
        about = f"{name}{unusual}: {prediction.milliseconds['total']:.1f} ms, {rate:.1f} images per second"
        return Group(table, Text(for_terminal(about), style="dim"))


def _line(name: str, prediction: Prediction) -> str:
    unusual = "  (unlike every class)" if prediction.is_novel else ""
    return f"{name}: {prediction.label} {prediction.probability:.1%}{unusual}"
