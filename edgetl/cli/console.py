"""Prints tables, and progress bars if there is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgetl.progress import Progress

PIPE_WIDTH = 200
"""Width of a table in characters if there is no terminal."""


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header; in a pipe, lines are as long as necessary."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in header:
        table.add_column(title, overflow="fold", no_wrap=title == header[0])
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    Console(width=console.width if console.is_terminal else PIPE_WIDTH).print(table)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show a progress bar for each step on stderr if it is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as ProgressBars

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with ProgressBars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield advance
