"""Hides how a last layer follows its statistics when these change; the device's Learner calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgetl import learners
from edgetl.errors import UnknownNameError
from edgetl.learners import nearest_mean
from edgetl.learners.last_layer import LastLayer
from edgetl.learners.statistics import Statistics


def relearn(last_layer: LastLayer, statistics: Statistics, parameters: Mapping[str, Any]) -> LastLayer:
    """Return the last layer solved anew from the statistics, by its own solver with the given parameters.

    Temperature and novelty stay as they were calibrated.

    Raises:
        UnknownNameError: this edgetl has no such solver.
        LearningError: nothing was taught.
        OptionError: the parameters are not the solver's.
    """
    if last_layer.solver not in learners.SOLVERS:
        raise UnknownNameError("solver", last_layer.solver, learners.SOLVERS, "edgetl doctor")
    weights, bias = learners.SOLVERS[last_layer.solver].solve(statistics, **parameters)
    means, _ = nearest_mean.solve(statistics)
    return replace(last_layer, labels=statistics.labels, weights=weights, bias=bias, means=means)
