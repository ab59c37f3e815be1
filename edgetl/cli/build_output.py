"""What build and search share: the options of a budget, and how a finished build is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgetl.pipeline import BuildResult


class _Duration(click.ParamType):
    """A time with its unit, such as 20m, as seconds."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", str(value))
        if parts is None:
            self.fail(f"'{value}' is no time; give such as 90s, 20m or 2h", param, ctx)
        return float(parts[1]) * {"s": 1, "m": 60, "h": 3600}[parts[2]]


DURATION = _Duration()

_LIMITS = {
    "max_latency_ms": click.option(
        "--max-latency-ms", type=float, metavar="MS", help="At most this latency on the board, as estimated."
    ),
    "max_size_bytes": click.option(
        "--max-size-bytes", type=int, metavar="BYTES", help="At most this size of the model."
    ),
    "max_ram_bytes": click.option(
        "--max-ram-bytes", type=int, metavar="BYTES", help="At most this memory while it runs, as estimated."
    ),
}
_TIME = click.option(
    "--time",
    type=DURATION,
    help="To search for the model, that of an interrupted run counted in; its build comes after.  [default: 20m]",
)


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of what a model may take on the board, and of the time to find it."""
    for option in (_TIME, *reversed(_LIMITS.values())):
        command = option(command)
    return command


def take_budget(given: dict[str, Any]) -> dict[str, Any]:
    """What was given of `budget_options`, as `SearchOptions` takes it; it is no longer among `given` then."""
    from edgetl.pipeline import Budget

    limits = {name.removeprefix("max_"): given.pop(name) for name in _LIMITS if name in given}
    time = {"time_s": given.pop("time")} if "time" in given else {}
    return {**({"budget": Budget(**limits)} if limits else {}), **time}


def print_build(result: BuildResult) -> None:
    """The summary of a build, where its files are, and what is left to do."""
    from edgetl.evaluation import render_terminal

    render_terminal(result.report)
    click.echo(f"bundle  {result.bundle}\nreport  {result.report_html}")
    if result.note:
        click.echo(result.note)
