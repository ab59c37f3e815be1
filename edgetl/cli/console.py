"""What commands share at the terminal: tables and progress, quiet in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200
"""Columns of a table where there is no terminal."""

ProgressCallback = Callable[[str, int, int], None]
"""Called with the step's name, how much of it is done, and how much there is."""


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header; a pipe gets lines as long as they need to be."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in header:
        table.add_column(title, overflow="fold", no_wrap=title == header[0])
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    Console(width=console.width if console.is_terminal else PIPE_WIDTH).print(table)


@contextmanager
def show_progress() -> Iterator[ProgressCallback]:
    """A progress bar per step on stderr when a terminal is there; silence in a pipe."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, object] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)  # type: ignore[arg-type]

        yield advance
