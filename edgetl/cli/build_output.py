"""Shared by build and search: the options of a budget, the output option, and the summary of a build."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgetl.cli.console import echo
from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.pipeline import BuildResult


class _Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A parameter type: a time with its unit, e.g. 20m, in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", str(value))
        if parts is None:
            self.fail(f"invalid duration '{value}': expected e.g. 90s, 20m or 2h", param, ctx)
        return float(parts[1]) * {"s": 1, "m": 60, "h": 3600}[parts[2]]


DURATION = _Duration()

OUTPUT_HELP = "Folder to write to, or the bundle itself: NAME.edgetl."

_LIMITS = {
    "max_latency_ms": click.option(
        "--max-latency-ms", type=float, metavar="MS", help="Upper limit of the estimated latency on the board."
    ),
    "max_size_bytes": click.option(
        "--max-size-bytes", type=int, metavar="BYTES", help="Upper limit of the model's size."
    ),
    "max_ram_bytes": click.option(
        "--max-ram-bytes", type=int, metavar="BYTES", help="Upper limit of the estimated memory while it runs."
    ),
}
_TIME = click.option(
    "--time",
    type=DURATION,
    help="Time for the search, including that of an interrupted one; the build comes after.  [default: 20m]",
)


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that limit what a model may use on the board, and the time to find it."""
    for option in (_TIME, *reversed(_LIMITS.values())):
        command = option(command)
    return command


def take_budget(parameters: dict[str, Any]) -> dict[str, Any]:
    """Move the values of `budget_options` out of `parameters`; return them as arguments of `SearchOptions`."""
    from edgetl.pipeline import Budget

    limits = {name.removeprefix("max_"): parameters.pop(name) for name in _LIMITS if name in parameters}
    time = {"time_s": parameters.pop("time")} if "time" in parameters else {}
    return {**({"budget": Budget(**limits)} if limits else {}), **time}


def name_and_folder(name: Optional[str], output: Path) -> tuple[Optional[str], Path]:
    """The bundle's name and its folder, from --name and from --output, which is a folder or NAME.edgetl.

    Raises:
        OptionError: both give a name, or the output is a file of another kind.
    """
    if output.suffix != ".edgetl" or output.is_dir():
        if output.exists() and not output.is_dir():
            raise OptionError(f"invalid output {output}: expected a folder or NAME.edgetl, found a file")
        return name, output
    if name not in (None, output.stem):
        raise OptionError(f"--name {name} contradicts --output {output}; leave one of them out")
    return output.stem, output.parent


def print_build(result: BuildResult) -> None:
    """Print the summary of a build, its files, and what is left to do."""
    from edgetl.evaluation import render_terminal

    render_terminal(result.report)
    echo(f"bundle  {result.bundle}", f"report  {result.report_html}")
    if result.note:
        echo(result.note)
