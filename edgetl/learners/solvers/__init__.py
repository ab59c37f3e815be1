"""The solvers of the last layer, by name. Every module in this folder is one; to add a solver, add a module.

A solver module defines:

- NAME: its name in options, bundles and reports.
- PARAMETERS: the default keyword parameters of `solve`.
- solve(statistics, **parameters): returns weights (d, K) float32 and bias (K,) float32, with the columns in the order
  of the statistics' labels. Raises LearningError if the statistics are empty.
- from_directions(directions, **parameters): the same from directions that are already solved, so that several solvers
  share one factorisation. `shrinkage`, which went into the directions, is not among its parameters.

Every solver is checked by tests/learners/solvers/test_every_solver.py, without an edit there.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Dict


def _find() -> Dict[str, ModuleType]:
    modules = (import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__))
    return {module.NAME: module for module in modules}


SOLVERS: Dict[str, ModuleType] = _find()
"""The solver modules by NAME."""
