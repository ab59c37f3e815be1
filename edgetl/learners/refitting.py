"""Solves a last layer again from changed statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from edgetl.errors import LearningError, OptionError, UnknownNameError
from edgetl.learners.condition_weights import ConditionWeights
from edgetl.learners.last_layer import Floats, LastLayer
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.solvers import SOLVERS
from edgetl.learners.statistics import Statistics


class Solution(NamedTuple):
    """Weights (d, K) float32, bias (K,) float32, and the geometry of the classes, which novelty needs."""

    weights: Floats
    bias: Floats
    directions: Directions


def relearn(
    last_layer: LastLayer,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    labels: Optional[Sequence[str]] = None,
    condition_weights: Optional[ConditionWeights] = None,
) -> LastLayer:
    """Return the last layer solved again from the statistics, by its own solver.

    Temperature, and the scales and quantiles of novelty, stay as they were calibrated.

    Args:
        last_layer: gives the solver and the calibration.
        statistics: what to solve from.
        parameters: the solver's keyword parameters.
        labels: the classes that compete, in the order of the columns; all of them if None. The other classes of the
            statistics only contribute to the covariance that all share.
        condition_weights: how shipped embeddings count beside taught ones; alike if None.

    Raises:
        UnknownNameError: this version of edgetl has no such solver.
        LearningError: the statistics are empty, or lack one of the labels.
        OptionError: the solver does not take these parameters.
    """
    chosen = statistics.labels if labels is None else tuple(labels)
    solution = solve(last_layer.solver, statistics, parameters, chosen, condition_weights)
    return replace(
        last_layer,
        labels=chosen,
        weights=solution.weights,
        bias=solution.bias,
        novelty_model=last_layer.novelty_model.for_classes(solution.directions),
    )


def solve(
    name: str,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    labels: Optional[Sequence[str]] = None,
    condition_weights: Optional[ConditionWeights] = None,
) -> Solution:
    """Solve by the solver with this name. Its factorisation also serves novelty.

    `labels` and `condition_weights` are those of `relearn`.

    Raises:
        UnknownNameError, LearningError, OptionError: as in `relearn`.
    """
    moments = Moments.of(statistics) if condition_weights is None else condition_weights.moments(statistics)
    directions = Directions.of(moments, parameters.get("shrinkage", SHRINKAGE))
    indices = _indices(statistics, statistics.labels if labels is None else labels)
    if indices != list(range(len(statistics.labels))):
        directions = directions.of_classes(indices)
    return Solution(*weights_of(name, directions, parameters), directions)


def weights_of(name: str, directions: Directions, parameters: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Return weights (d, K) and bias (K,) by the solver with this name, from directions that are already solved.

    Raises:
        UnknownNameError, OptionError: as in `relearn`.
    """
    if name not in SOLVERS:
        raise UnknownNameError("solver", name, SOLVERS, "edgetl doctor")
    others = {key: value for key, value in parameters.items() if key != "shrinkage"}
    try:
        weights, bias = SOLVERS[name].from_directions(directions, **others)
    except TypeError as error:
        raise OptionError(f"the solver '{name}' does not take {dict(parameters)}: {error}") from error
    return weights, bias


def _indices(statistics: Statistics, labels: Sequence[str]) -> list[int]:
    index_of = {label: index for index, label in enumerate(statistics.labels)}
    unknown = [label for label in labels if label not in index_of]
    if unknown or not labels:
        raise LearningError(f"classes {unknown} are not among those taught: {', '.join(index_of) or 'none'}")
    return [index_of[label] for label in labels]
