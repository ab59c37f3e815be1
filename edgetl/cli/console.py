"""Prints lines, JSON, tables, and progress bars if there is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Union

from edgetl.progress import Progress
from edgetl.text import for_json, for_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Cell = Union[str, Sequence[str]]

PIPE_WIDTH = 200
"""Width of a table in characters if there is no terminal."""


def echo(*lines: str, err: bool = False) -> None:
    """Print lines on standard output, or standard error: each argument is one line, whatever it contains."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # the descriptor was closed
        return
    with suppress(OSError) if err else nullcontext():  # where standard error is full or closed, the work goes on
        stream.write("".join(f"{for_terminal(line, stream.encoding)}\n" for line in lines))
        stream.flush()


def print_json(value: object) -> None:
    """Print a JSON value on one line, as `--json` does everywhere."""
    if sys.stdout is not None:
        sys.stdout.write(for_json(value, sys.stdout.encoding) + "\n")
        sys.stdout.flush()


def print_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under a header; in a pipe, lines are as long as necessary. A cell is a line, or several."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in header:
        table.add_column(_cell(title), overflow="fold", no_wrap=title == header[0])
    for row in rows:
        table.add_row(*map(_cell, row))
    console = Console()
    wide = console if console.is_terminal else Console(width=PIPE_WIDTH)
    with wide.capture() as printed:  # rich itself would exit with code 1 where the reader has closed the pipe
        wide.print(table)
    sys.stdout.write(printed.get())
    sys.stdout.flush()


def is_unicode(console: Console) -> bool:
    """Whether all characters can be shown; rich draws boxes and bars in ASCII otherwise."""
    return console.encoding.lower().startswith("utf")


def _cell(content: Cell) -> Text:
    """Plain text: rich would read a string as markup."""
    from rich.text import Text

    return Text("\n".join(map(for_terminal, [content] if isinstance(content, str) else content)))


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Show a progress bar for each step on stderr if it is a terminal, else nothing."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as ProgressBars
    from rich.text import Text

    console = Console(stderr=True)
    columns = (
        SpinnerColumn("dots" if is_unicode(console) else "line", finished_text=Text("✓", "green")),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with ProgressBars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(for_terminal(step, sys.stderr.encoding), total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield advance
