"""How `edgetl run` shows what it finds: lines for people, JSON lines for pipes, a live table in a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Optional, Protocol

import click

from edgetl.cli import print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgetl.errors import ImageError
    from edgetl.runtime import Prediction

TOP = 5
"""Classes in the live table."""
BAR_WIDTH = 24
SUMMARY_SECONDS = 3600
"""Between two summaries where only changes are told."""
LEAST_SECONDS = 1.0
"""Between two changes: a label that flickers is not told each time, for a log may lie on an SD card."""
REFRESHES_PER_SECOND = 8


class Display(Protocol):
    """Where predictions go, one at a time."""

    def show(self, name: str, prediction: Prediction) -> None:
        """Show what an image is."""

    def complain(self, name: str, error: ImageError) -> None:
        """Say that an image cannot be read."""


def open_display(as_json: bool, is_camera: bool, only_changes: bool = False) -> AbstractContextManager[Display]:
    """What fits standard output; a camera has no record in a terminal, its table changes in place."""
    if only_changes:
        return Changes(_JsonLines() if as_json else _Lines())
    if as_json:
        return nullcontext(_JsonLines())
    if sys.stdout.isatty():
        return _LiveTable(keeps_record=not is_camera)
    return nullcontext(_Lines())


class _Record(Display, Protocol):
    """A display that is read later."""

    def sum_up(self, summary: dict[str, Any]) -> None:
        """Say what there was since the last summary."""


class Changes:
    """Passes on what differs from what was told last, by label or by being novel, and a summary every hour.

    Used as a context, it ends with a summary. `clock` gives seconds.
    """

    def __init__(self, record: _Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        self._told: Optional[tuple[str, bool]] = None
        self._told_at = 0.0
        self._begin()

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._images or self._unread:
            self._sum_up()

    def show(self, name: str, prediction: Prediction) -> None:
        """Count an image, and show it where it is a change."""
        self._images[prediction.label] += 1
        self._novel += bool(prediction.is_novel)
        found, now = (prediction.label, bool(prediction.is_novel)), self._clock()
        if found != self._told and (self._told is None or now - self._told_at >= LEAST_SECONDS):
            self._told, self._told_at = found, now
            self._record.show(name, prediction)
        if now - self._since >= SUMMARY_SECONDS:
            self._sum_up()

    def complain(self, name: str, error: ImageError) -> None:
        """Count an image that cannot be read, and say so."""
        self._unread += 1
        self._record.complain(name, error)

    def _begin(self) -> None:
        self._since = self._clock()
        self._images: Counter[str] = Counter()
        self._novel, self._unread = 0, 0

    def _sum_up(self) -> None:
        self._record.sum_up(
            {
                "seconds": round(self._clock() - self._since, 1),
                "images": sum(self._images.values()),
                "labels": dict(self._images.most_common()),
                "novel": self._novel,
                "unread": self._unread,
            }
        )
        self._begin()


class _JsonLines:
    """One JSON object a line, each written at once."""

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

    def complain(self, name: str, error: ImageError) -> None:
        print_json({"source": name, "error": str(error)})

    def sum_up(self, summary: dict[str, Any]) -> None:
        print_json({"summary": summary})


class _Lines:
    """One line an image; what cannot be read goes to standard error."""

    def show(self, name: str, prediction: Prediction) -> None:
        click.echo(_line(name, prediction))

    def complain(self, name: str, error: ImageError) -> None:
        click.echo(str(error), err=True)

    def sum_up(self, summary: dict[str, Any]) -> None:
        labels = ", ".join(f"{label} {count:,}" for label, count in summary["labels"].items())
        click.echo(
            f"in {summary['seconds'] / 60:.0f} minutes {summary['images']:,} images: {labels or 'none'}; "
            f"{summary['novel']:,} unlike anything it was taught, {summary['unread']:,} not readable"
        )


class _LiveTable:
    """The latest image's most probable classes, in place, below the lines of all images."""

    def __init__(self, keeps_record: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._keeps_record = keeps_record
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
        if self._keeps_record:
            self._print(_line(name, prediction))

    def complain(self, name: str, error: ImageError) -> None:
        self._print(str(error))

    def _print(self, line: str) -> None:
        from rich.text import Text

        self._live.console.print(Text(line), soft_wrap=True)

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
            bar = "█" * round(probability * BAR_WIDTH)
            table.add_row(label, f"{probability:6.1%}", f"{bar:{BAR_WIDTH}}", str(self._images[label]))
        rate = sum(self._images.values()) / (time.monotonic() - self._started)
        unusual = ", unlike anything it was taught" if prediction.is_novel else ""
        about = f"{name}{unusual}: {prediction.milliseconds['total']:.1f} ms, {rate:.1f} images a second"
        return Group(table, Text(about, style="dim"))


def _line(name: str, prediction: Prediction) -> str:
    unusual = "  (unlike anything it was taught)" if prediction.is_novel else ""
    return f"{name}: {prediction.label} {prediction.probability:.1%}{unusual}"
