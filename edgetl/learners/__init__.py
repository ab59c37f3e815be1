"""The last layer: exact statistics of embeddings, and the solvers that turn them into weights; numpy only.

What predicting does not need is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgetl.learners.fixed_point import GRID, to_grid
from edgetl.learners.last_layer import LastLayer

if TYPE_CHECKING:
    from edgetl.learners.adaptation import Adaptation, adapt
    from edgetl.learners.condition_weights import Weighing
    from edgetl.learners.drift import Drift, Usual, Window, judge
    from edgetl.learners.refitting import relearn
    from edgetl.learners.selection import Selection, choose
    from edgetl.learners.solvers import SOLVERS
    from edgetl.learners.statistics import Statistics

__all__ = [
    "GRID",
    "SOLVERS",
    "Adaptation",
    "Drift",
    "LastLayer",
    "Selection",
    "Statistics",
    "Usual",
    "Weighing",
    "Window",
    "adapt",
    "choose",
    "judge",
    "relearn",
    "to_grid",
]

_HOMES = {
    "SOLVERS": "solvers",
    "Adaptation": "adaptation",
    "Drift": "drift",
    "Selection": "selection",
    "Statistics": "statistics",
    "Usual": "drift",
    "Weighing": "condition_weights",
    "Window": "drift",
    "adapt": "adaptation",
    "choose": "selection",
    "judge": "drift",
    "relearn": "refitting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
