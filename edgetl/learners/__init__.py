"""The last layer: exact statistics of embeddings, and the solvers that turn them into weights. Needs numpy only.

Names that prediction does not need are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader
from edgetl.learners.fixed_point import GRID, to_grid
from edgetl.learners.last_layer import LastLayer

if TYPE_CHECKING:
    from edgetl.learners.adaptation import Adaptation, adapt
    from edgetl.learners.condition_weights import ConditionWeights
    from edgetl.learners.difference import apply_difference, encode_difference
    from edgetl.learners.drift import Baseline, Drift, Window, assess_drift
    from edgetl.learners.refitting import relearn
    from edgetl.learners.selection import Selection, choose
    from edgetl.learners.solvers import SOLVERS
    from edgetl.learners.statistics import Statistics

__all__ = [
    "GRID",
    "SOLVERS",
    "Adaptation",
    "Baseline",
    "ConditionWeights",
    "Drift",
    "LastLayer",
    "Selection",
    "Statistics",
    "Window",
    "adapt",
    "apply_difference",
    "assess_drift",
    "choose",
    "encode_difference",
    "relearn",
    "to_grid",
]

_MODULES = {
    "SOLVERS": "solvers",
    "Adaptation": "adaptation",
    "Baseline": "drift",
    "ConditionWeights": "condition_weights",
    "Drift": "drift",
    "Selection": "selection",
    "Statistics": "statistics",
    "Window": "drift",
    "adapt": "adaptation",
    "apply_difference": "difference",
    "assess_drift": "drift",
    "choose": "selection",
    "encode_difference": "difference",
    "relearn": "refitting",
}

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
