"""The solvers of the last layer by name: every module in this folder is one.

A solver module has
- NAME: how users and bundles name it;
- PARAMETERS: what `solve` is given beside the statistics, by default;
- solve(statistics, **parameters) -> weights (d, K) float32, bias (K,) float32;
- from_directions(directions, **parameters): the same from directions already solved for, so that several solvers
  share one factorisation.
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
