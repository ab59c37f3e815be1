"""Renders the report of a search as one HTML page: accuracy against latency and size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgetl.durable import replace_file
from edgetl.evaluation.renderers import wording
from edgetl.evaluation.renderers.charts import Tick
from edgetl.evaluation.renderers.html import load_template
from edgetl.evaluation.search_report import SearchReport, Trial


@dataclass(frozen=True)
class Point:
    """One trial in a plot: its position, its CSS class, and its tooltip."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True)
class Scatter:
    """Accuracy against a cost on a logarithmic axis, in a frame of `left`..`right`, `top`..`bottom`, in SVG units.

    `steps` are the points of an SVG polyline through the trials that no other beats in both.
    """

    left: float
    right: float
    top: float
    bottom: float
    points: tuple[Point, ...]
    steps: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str


def render_search_html(report: SearchReport) -> str:
    """The report as one HTML page that loads no other files; MissingExtraError without jinja2."""
    plots = [_scatter(report, lambda trial: trial.model_bytes, _size, "size of the model")]
    if all(trial.latency for trial in report.trials):
        title = f"latency on {report.target}, estimated"
        plots.insert(0, _scatter(report, _latency, wording.milliseconds, title))
    else:
        plots.insert(0, _scatter(report, lambda trial: trial.macs, _millions, "multiply-accumulates"))
    return str(load_template("search.html.j2").render(report=report, pick=report.pick, plots=plots))


def write_search(report: SearchReport, path: Path) -> Path:
    """Write the page to `path` in one step. Raises StorageError, MissingExtraError."""
    replace_file(path, render_search_html(report).encode())
    return path


def _scatter(
    report: SearchReport, cost: Callable[[Trial], float], text_of: Callable[[float], str], x_title: str
) -> Scatter:
    left, right, top, bottom = 46.0, 404.0, 14.0, 220.0
    costs = [cost(trial) for trial in report.trials]
    lowest, highest = min(costs) / 1.15, max(costs) * 1.15
    floor = math.floor(20 * min(trial.accuracy.value for trial in report.trials)) / 20
    floor = min(floor, 0.95)

    def x(value: float) -> float:
        return round(left + (right - left) * math.log(value / lowest) / math.log(highest / lowest), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - floor) / (1 - floor), 1)

    def point(trial: Trial) -> Point:
        kind = "pick" if trial.picked else "trained" if trial.epochs else "plain"
        title = f"{trial.name}: {wording.percent(trial.accuracy.value)}, {text_of(cost(trial))}"
        return Point(x(cost(trial)), y(trial.accuracy.value), kind, title)

    levels = [floor + (1 - floor) * i / 5 for i in range(6)]
    return Scatter(
        left,
        right,
        top,
        bottom,
        tuple(point(trial) for trial in sorted(report.trials, key=lambda trial: trial.picked)),
        _steps([(x(cost(trial)), y(trial.accuracy.value)) for trial in report.trials], right),
        tuple(Tick(x(value), text_of(value)) for value in _round_values(lowest, highest)),
        tuple(Tick(y(level), wording.percent(level, 0 if floor < 0.9 else 1)) for level in levels),
        x_title,
    )


def _steps(places: list[tuple[float, float]], right: float) -> str:
    """From the cheapest to the most expensive, only upwards; in SVG, y grows downwards."""
    corners, best = [], math.inf
    for x, y in sorted(places):
        if y < best:
            corners += [(x, best), (x, y)] if math.isfinite(best) else [(x, y)]
            best = y
    return " ".join(f"{x:g},{y:g}" for x, y in [*corners, (right, best)])


def _round_values(lowest: float, highest: float) -> list[float]:
    """The round values of an axis: 1, 2 and 5 times powers of ten."""
    powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    return [value for power in powers for value in (10.0**power * i for i in (1, 2, 5)) if lowest <= value <= highest]


def _latency(trial: Trial) -> float:
    assert trial.latency is not None
    return trial.latency.value


def _millions(macs: float) -> str:
    return f"{macs / 1e6:.0f}M"


def _size(count: float) -> str:
    return wording.size(round(count))
