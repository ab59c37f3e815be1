"""Prints the report of a build or of an evaluation in a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Optional

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgetl.evaluation.gate import Repair
from edgetl.evaluation.renderers import wording
from edgetl.evaluation.report import Report
from edgetl.evaluation.scoring import Evaluation
from edgetl.evaluation.values import Figure
from edgetl.text import for_terminal

WORST = 3
"""Classes with the lowest recall that are listed."""

PIPE_WIDTH = 200
"""Characters per line if the output is not a terminal."""


def render_terminal(report: Report, console: Optional[Console] = None) -> None:
    """Print what was built, how good it is, and what to do next; without colours in a pipe."""
    console = console or open_console()
    table = _table()
    _add_accuracy(table, report)
    _add_size_and_latency(table, report)
    _row(table, "worst classes", *_worst(report.evaluation))
    console.print()
    console.print(Text(for_terminal(wording.headline(report)), style="bold"))
    console.print()
    console.print(table)
    console.print()
    console.print(Text("What to do next", style="bold"))
    for number, line in enumerate(wording.advice(report), start=1):
        console.print(Text(for_terminal(f"{number}. {line}")))


def render_evaluation(evaluation: Evaluation, console: Optional[Console] = None) -> None:
    """Print the figures of one evaluation, and the photos that were not counted; without colours in a pipe."""
    console = console or open_console()
    table = _table()
    _row(table, "accuracy", wording.percent(evaluation.accuracy.value), _within(evaluation))
    balanced, error = evaluation.balanced_accuracy, evaluation.calibration_error
    _row(table, "balanced accuracy", wording.percent(balanced.value), wording.interval(balanced))
    _row(table, "calibration error", wording.percent(error.value), wording.interval(error))
    _row(table, "worst classes", *_worst(evaluation))
    if absent := [entry.label for entry in evaluation.per_class if not entry.support]:
        _row(table, "not measured", wording.count(len(absent), "class", "classes"), wording.listing(absent, 4))
    if evaluation.unreadable:
        names = wording.listing([entry.source for entry in evaluation.unreadable], 4)
        _row(table, "unreadable", wording.count(len(evaluation.unreadable), "photo"), names)
    if evaluation.unknown_labels:
        names = wording.listing([label for label, _ in evaluation.unknown_labels], 4)
        total = sum(number for _, number in evaluation.unknown_labels)
        _row(table, "unknown labels", wording.count(total, "photo"), names)
    console.print(table)


def open_console() -> Console:
    """Standard output; a pipe gets long lines, so that nothing is wrapped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="dim")
    return table


def _add_accuracy(table: Table, report: Report) -> None:
    """The rows on accuracy, quantization, repairs, pruning, and photos that were left out."""
    _row(table, "accuracy", wording.percent(report.evaluation.accuracy.value), _within(report.evaluation))
    if (comparison := report.quantization) is not None:
        difference = comparison.difference
        low, high = wording.points(difference.low), wording.points(difference.high)
        note = f"against {comparison.first}, {low} to {high}"
        _row(table, comparison.second, f"{wording.points(difference.points)} points", note)
    if report.gate is not None:
        _row(table, "accuracy gate", "passed" if report.gate.passed else "failed", wording.gate_summary(report.gate))
        for repair in report.gate.repairs:
            after = repair.after.value if repair.after else None
            _row(table, "  repair", wording.percent(after), _repair_note(repair))
    if report.pruning is not None:
        share = wording.percent(report.pruning.share, 0)
        _row(table, "pruned", f"by {share}", wording.pruning_summary(report.pruning))
    if report.data is not None and report.data.left_out:
        left_out = report.data.left_out
        reasons = [f"{count} {reason}" for reason, count in Counter(left_out.values()).most_common()]
        names = wording.listing([path.rsplit("/", 1)[-1] for path in left_out], 4)
        _row(table, "left out", wording.count(len(left_out), "photo"), f"{', '.join(reasons)}: {names}")


def _add_size_and_latency(table: Table, report: Report) -> None:
    summary = report.summary
    _row(table, "size", wording.size(summary.model_bytes), _bundle_note(summary.bundle_bytes))
    if (latency := summary.latency_here) is not None:
        note = f"99th percentile {wording.milliseconds(latency.p99_ms)}; {latency.machine}"
        _row(table, "latency here", wording.milliseconds(latency.p50_ms), note)
    if summary.latency_on_target is not None:
        _row(table, f"on {summary.target}", *_on_target(summary.latency_on_target))


def _row(table: Table, *cells: str) -> None:
    """Add a row of plain text: labels are never interpreted as markup."""
    table.add_row(*(Text(for_terminal(cell)) for cell in cells))


def _within(evaluation: Evaluation) -> str:
    return f"{wording.interval(evaluation.accuracy)} on {wording.count(evaluation.n, 'photo')}"


def _bundle_note(bundle_bytes: Optional[int]) -> str:
    return f"{wording.size(bundle_bytes)} for the whole bundle" if bundle_bytes else ""


def _repair_note(repair: Repair) -> str:
    """The name of a repair, whether it was kept, the accuracy before it, and how long it took."""
    verdict = "kept" if repair.kept else "not kept"
    parts = [verdict, f"before {wording.percent(repair.before.value)}", wording.seconds(repair.seconds), repair.note]
    return f"{repair.name}: {'; '.join(part for part in parts if part)}"


def _on_target(figure: Figure) -> tuple[str, str]:
    speed = wording.milliseconds(figure.value)
    if not figure.estimate:
        return speed, figure.how
    return f"≈ {speed}", f"estimate{wording.interval_ms(figure)}; {figure.how}"


def _worst(evaluation: Evaluation) -> tuple[str, str]:
    """The class with the lowest recall, and the next ones."""
    worst = [
        f"{entry.label} {wording.percent(recall.value, 0)}" for entry, recall in evaluation.worst_classes()[:WORST]
    ]
    return worst[0], ", ".join(worst[1:])
