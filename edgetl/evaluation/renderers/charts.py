"""The geometry of the report's charts, in SVG units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from edgetl.evaluation.metrics import ReliabilityBin
from edgetl.evaluation.renderers.wording import percent
from edgetl.evaluation.report import Epoch
from edgetl.evaluation.scoring import Evaluation

TABLE_CLASSES = 15
"""With more classes, the confusion matrix is a colour map instead of a table with numbers."""

CELL = 14
"""The side of one cell of the colour map."""


@dataclass(frozen=True)
class Tick:
    """A position on an axis and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One curve: its CSS class, its name, the points of an SVG polyline, and its last point and value."""

    kind: str
    name: str
    points: str
    end: tuple[float, float]
    value: str


@dataclass(frozen=True)
class Curve:
    """The learning curve in a frame of `left`..`right`, `top`..`bottom`.

    `phases` are (first x, last x, name) of the phases of training.
    """

    left: float
    right: float
    top: float
    bottom: float
    lines: tuple[Line, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    phases: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Dot:
    """One bin of the reliability diagram: position, radius, and tooltip."""

    x: float
    y: float
    radius: float
    title: str


@dataclass(frozen=True)
class Cell:
    """A cell of the colour map that is not empty."""

    x: int
    y: int
    right: bool
    strength: float
    title: str


@dataclass(frozen=True)
class Map:
    """A large confusion matrix as a colour map; `margin` is the space for the labels."""

    side: int
    margin: int
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


def learning_curve(history: Sequence[Epoch]) -> Optional[Curve]:
    """Training and validation accuracy over the epochs; None if there are fewer than two."""
    left, right, top, bottom = 40.0, 318.0, 26.0, 190.0
    series = (
        ("train", "training", [epoch.accuracy for epoch in history]),
        ("validation", "validation", [epoch.validation_accuracy for epoch in history]),
    )
    known = [value for _, _, values in series for value in values if value is not None]
    if len(history) < 2 or not known:
        return None
    lowest = min(0.9, math.floor(10 * min(known)) / 10)

    def x(i: float) -> float:
        return round(left + (right - left) * i / (len(history) - 1), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - lowest) / (1 - lowest), 1)

    lines = [
        _line(kind, name, [(x(i), y(value), value) for i, value in enumerate(values) if value is not None])
        for kind, name, values in series
        if any(value is not None for value in values)
    ]
    step = 0.1 if lowest >= 0.5 else 0.2
    levels = [1 - step * i for i in range(1 + round((1 - lowest) / step + 1e-6 - 0.5))]
    every = max(1, math.ceil(len(history) / 10))
    return Curve(
        left,
        right,
        top,
        bottom,
        tuple(lines),
        tuple(Tick(y(level), percent(level, 0)) for level in levels if level >= lowest - 1e-9),
        tuple(Tick(x(i), str(i + 1)) for i in range(0, len(history), every)),
        tuple(
            (x(max(0, start - 0.5)), x(min(len(history) - 1, end - 0.5)), name) for start, end, name in _phases(history)
        ),
    )


def reliability_dots(bins: Sequence[ReliabilityBin], side: float = 200.0) -> tuple[Dot, ...]:
    """The bins as dots, larger for more images, in a square with the origin at its lower left."""
    most = max((entry.n for entry in bins), default=1)
    return tuple(
        Dot(
            x=round(side * entry.confidence, 1),
            y=round(side * (1 - entry.accuracy), 1),
            radius=round(2.5 + 8 * math.sqrt(entry.n / most), 1),
            title=f"{entry.n} predictions at {percent(entry.confidence, 0)}: {percent(entry.accuracy, 0)} right",
        )
        for entry in bins
    )


def confusion_map(evaluation: Evaluation) -> Map:
    """The colour map of a confusion matrix with many classes."""
    cells = []
    for row, counts in enumerate(evaluation.confusion):
        for column, count in enumerate(counts):
            if count:
                label, predicted = evaluation.labels[row], evaluation.labels[column]
                title = f"{label} → {predicted}: {count} of {sum(counts)}"
                strength = round(0.15 + 0.85 * count / sum(counts), 2)
                cells.append(Cell(column * CELL, row * CELL, row == column, strength, title))
    longest = max(len(label) for label in evaluation.labels)
    return Map(CELL * len(evaluation.labels), 12 + 6 * min(longest, 24), evaluation.labels, tuple(cells))


def _line(kind: str, name: str, places: list[tuple[float, float, float]]) -> Line:
    x, y, value = places[-1]
    return Line(kind, name, " ".join(f"{a},{b}" for a, b, _ in places), (x, y), percent(value, 0))


def _phases(history: Sequence[Epoch]) -> list[tuple[float, float, str]]:
    """(first epoch, one past the last, name) of each phase."""
    spans, start = [], 0
    for name, epochs in itertools.groupby(epoch.phase for epoch in history):
        end = start + len(list(epochs))
        spans.append((float(start), float(end), name))
        start = end
    spans[-1] = (spans[-1][0], float(len(history)) + 0.5, spans[-1][2])
    return spans
