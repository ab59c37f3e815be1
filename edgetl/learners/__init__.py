"""The last layer: exact statistics of embeddings, and the solvers that turn them into weights; numpy only."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from edgetl.learners.adaptation import Adaptation, adapt
from edgetl.learners.embedding import GRID, to_grid
from edgetl.learners.last_layer import LastLayer
from edgetl.learners.relearning import relearn
from edgetl.learners.selection import Selection, choose
from edgetl.learners.statistics import Statistics
from edgetl.learners.weighing import Weighing

__all__ = [
    "GRID",
    "SOLVERS",
    "Adaptation",
    "LastLayer",
    "Selection",
    "Statistics",
    "Weighing",
    "adapt",
    "choose",
    "relearn",
    "to_grid",
]


def _find_solvers() -> dict[str, ModuleType]:
    """Every module of this folder that has NAME and solve is a solver."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return {module.NAME: module for module in modules if hasattr(module, "NAME") and hasattr(module, "solve")}


SOLVERS: dict[str, ModuleType] = _find_solvers()
"""The solvers by name; a new one is one file here."""
