"""Hides how a last layer follows its statistics; the device's Learner and the selection call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from edgetl.errors import LearningError, OptionError, UnknownNameError
from edgetl.learners.condition_weights import Weighing
from edgetl.learners.last_layer import Floats, LastLayer
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.solvers import SOLVERS
from edgetl.learners.statistics import Statistics


class Solution(NamedTuple):
    """Weights (d, K) and bias (K,), and the geometry of the classes that novelty needs."""

    weights: Floats
    bias: Floats
    directions: Directions


def relearn(
    last_layer: LastLayer,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    labels: Optional[Sequence[str]] = None,
    weighing: Optional[Weighing] = None,
) -> LastLayer:
    """Return the last layer solved anew from the statistics, by its own solver with the given parameters.

    Temperature, and what novelty is measured against, stay as they were calibrated. With `labels`, these classes
    compete, in this order; any other class of the statistics only serves the covariance that all share. With
    `weighing`, what was shipped weighs less than what was taught.

    Raises:
        UnknownNameError: this edgetl has no such solver.
        LearningError: nothing was taught.
        OptionError: the parameters are not the solver's.
    """
    chosen = statistics.labels if labels is None else tuple(labels)
    solution = solve(last_layer.solver, statistics, parameters, chosen, weighing)
    return replace(
        last_layer,
        labels=chosen,
        weights=solution.weights,
        bias=solution.bias,
        novelty_model=last_layer.novelty_model.following(solution.directions),
    )


def solve(
    name: str,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    labels: Optional[Sequence[str]] = None,
    weighing: Optional[Weighing] = None,
) -> Solution:
    """Solve by the solver of that name, which shares the factorisation with novelty.

    `labels` choose and order the classes, and `weighing` says what weighs less, as in `relearn`.

    Raises:
        UnknownNameError, LearningError, OptionError: as `relearn`.
    """
    moments = Moments.of(statistics) if weighing is None else weighing.moments(statistics)
    directions = Directions.of(moments, parameters.get("shrinkage", SHRINKAGE))
    slots = _slots(statistics, statistics.labels if labels is None else labels)
    if slots != list(range(len(statistics.labels))):
        directions = directions.of_classes(slots)
    return Solution(*weights_of(name, directions, parameters), directions)


def weights_of(name: str, directions: Directions, parameters: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Weights (d, K) and bias (K,) by the solver of that name, for directions that were solved for already.

    Raises:
        UnknownNameError, OptionError: as `relearn`.
    """
    if name not in SOLVERS:
        raise UnknownNameError("solver", name, SOLVERS, "edgetl doctor")
    others = {key: value for key, value in parameters.items() if key != "shrinkage"}
    try:
        weights, bias = SOLVERS[name].from_directions(directions, **others)
    except TypeError as error:
        raise OptionError(f"the solver '{name}' does not take {dict(parameters)}: {error}") from error
    return weights, bias


def _slots(statistics: Statistics, labels: Sequence[str]) -> list[int]:
    slot_of = {label: slot for slot, label in enumerate(statistics.labels)}
    unknown = [label for label in labels if label not in slot_of]
    if unknown or not labels:
        raise LearningError(f"classes {unknown} are not among those taught: {', '.join(slot_of) or 'none'}")
    return [slot_of[label] for label in labels]
