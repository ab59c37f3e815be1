"""Prints the report of a search in a terminal."""

from __future__ import annotations

from typing import Optional

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.evaluation.renderers import wording
from edgetl.evaluation.renderers.terminal import open_console
from edgetl.evaluation.search_report import SearchReport, Trial
from edgetl.text import for_terminal

LEGEND = "→ the pick   * no other model is as good in accuracy, log-loss, latency and size"

SKIPPED = 40
"""Models that were not tried are listed up to this number; further ones are counted."""


def render_search(report: SearchReport, console: Optional[Console] = None) -> None:
    """Print the trials, the most accurate first, what was skipped, and the pick; without colours in a pipe."""
    console = console or open_console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for title in ("accuracy", "std. error", "log-loss", f"on {report.target}", "MACs", "size", "RAM", "time"):
        table.add_column(Text(for_terminal(title)), justify="right", no_wrap=True)
    for trial in report.trials:
        style = "bold" if trial.picked else "" if trial.on_front else "dim"
        table.add_row(*(Text(for_terminal(cell)) for cell in _cells(trial)), style=style)
    console.print(table)
    console.print(Text(for_terminal(LEGEND), style="dim"))
    for line in report.skipped[:SKIPPED]:
        console.print(Text(for_terminal(f"skipped  {line}"), style="dim"))
    if len(report.skipped) > SKIPPED:
        console.print(Text(f"skipped  {len(report.skipped) - SKIPPED} more", style="dim"))
    console.print()
    console.print(Text(for_terminal(report.why), style="bold"))


def _cells(trial: Trial) -> list[str]:
    return [
        "→" if trial.picked else "*" if trial.on_front else "",
        trial.name,
        wording.percent(trial.accuracy.value),
        f"±{100 * trial.standard_error:.1f}",
        f"{trial.log_loss:.3f}",
        f"≈ {wording.milliseconds(trial.latency.value)}" if trial.latency else "–",
        f"{trial.macs / 1e6:.0f}M",
        wording.size(trial.model_bytes),
        f"≈ {wording.size(trial.ram_bytes)}",
        wording.seconds(trial.seconds),
    ]
