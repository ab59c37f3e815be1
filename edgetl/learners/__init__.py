"""The last layer: exact statistics of embeddings, and the solvers that turn them into weights; numpy only.

What predicting does not need is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgetl.learners.embedding import GRID, to_grid
from edgetl.learners.last_layer import LastLayer

if TYPE_CHECKING:
    from edgetl.learners.adaptation import Adaptation, adapt
    from edgetl.learners.drift import Drift, Usual, Window, judge
    from edgetl.learners.relearning import relearn
    from edgetl.learners.selection import Selection, choose
    from edgetl.learners.statistics import Statistics
    from edgetl.learners.weighing import Weighing

    SOLVERS: dict[str, ModuleType]

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
    "Adaptation": "adaptation",
    "Drift": "drift",
    "Selection": "selection",
    "Statistics": "statistics",
    "Usual": "drift",
    "Weighing": "weighing",
    "Window": "drift",
    "adapt": "adaptation",
    "choose": "selection",
    "judge": "drift",
    "relearn": "relearning",
}


def __getattr__(name: str) -> Any:
    if name == "SOLVERS":
        value = _find_solvers()
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _find_solvers() -> dict[str, ModuleType]:
    """The solvers by name: every module of this folder that has NAME and solve; a new one is one file here."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return {module.NAME: module for module in modules if hasattr(module, "NAME") and hasattr(module, "solve")}
