"""Hides how a last layer follows its statistics; the device's Learner and the selection call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from edgetl import learners
from edgetl.errors import OptionError, UnknownNameError
from edgetl.learners.last_layer import Floats, LastLayer
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.statistics import Statistics


class Solution(NamedTuple):
    """Weights (d, K) and bias (K,), and the geometry of the classes that novelty needs."""

    weights: Floats
    bias: Floats
    directions: Directions


def relearn(last_layer: LastLayer, statistics: Statistics, parameters: Mapping[str, Any]) -> LastLayer:
    """Return the last layer solved anew from the statistics, by its own solver with the given parameters.

    Temperature, and what novelty is measured against, stay as they were calibrated.

    Raises:
        UnknownNameError: this edgetl has no such solver.
        LearningError: nothing was taught.
        OptionError: the parameters are not the solver's.
    """
    solution = solve(last_layer.solver, statistics, parameters)
    return replace(
        last_layer,
        labels=statistics.labels,
        weights=solution.weights,
        bias=solution.bias,
        novelty_model=last_layer.novelty_model.following(solution.directions),
    )


def solve(name: str, statistics: Statistics, parameters: Mapping[str, Any]) -> Solution:
    """Solve by the solver of that name; one that has `from_directions` shares the factorisation with novelty.

    Raises:
        UnknownNameError, LearningError, OptionError: as `relearn`.
    """
    if name not in learners.SOLVERS:
        raise UnknownNameError("solver", name, learners.SOLVERS, "edgetl doctor")
    solver = learners.SOLVERS[name]
    directions = Directions.of(Moments.of(statistics), parameters.get("shrinkage", SHRINKAGE))
    try:
        if hasattr(solver, "from_directions"):
            others = {key: value for key, value in parameters.items() if key != "shrinkage"}
            weights, bias = solver.from_directions(directions, **others)
        else:
            weights, bias = solver.solve(statistics, **parameters)
    except TypeError as error:
        raise OptionError(f"the solver '{name}' does not take {dict(parameters)}: {error}") from error
    return Solution(weights, bias, directions)
