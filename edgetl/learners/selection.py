"""Hides how solver, shrinkage, temperature and novelty threshold are chosen without a test split; build calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners import discriminant, nearest_mean, ridge
from edgetl.learners.last_layer import Floats, LastLayer, softmax, unusualness
from edgetl.learners.statistics import Statistics

NOVELTY_THRESHOLD = 0.98
"""The share of known images that a novelty threshold lets through."""


class Candidate(NamedTuple):
    """What one solver with one set of parameters reached on the folds, all classes weighing the same."""

    solver: str
    parameters: dict[str, Any]
    accuracy: float
    log_loss: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen last layer, and what it was chosen from.

    Attributes:
        solver: name of the solver.
        parameters: its keyword parameters.
        last_layer: solved from all embeddings.
        statistics: of all embeddings.
        out_of_fold_indices: (m,) the embeddings that were predicted by a layer which had not seen them.
        out_of_fold_probabilities: (m, K) float32, columns in the order of last_layer.labels.
        candidates: everything that was tried, the best first.
    """

    solver: str
    parameters: dict[str, Any]
    last_layer: LastLayer
    statistics: Statistics
    out_of_fold_indices: NDArray[np.int64]
    out_of_fold_probabilities: Floats
    candidates: tuple[Candidate, ...] = field(repr=False)


def choose(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> Selection:
    """Choose solver and shrinkage by cross-validation, calibrate, and solve from everything.

    Args:
        embeddings: (n, d) int16, on the grid.
        labels: n labels.
        folds: (n,) int; -1 is always trained on and never predicted; each other fold is predicted by a layer
            solved from everything else.

    Raises:
        LearningError: fewer than two classes, sizes that do not fit, or no fold to predict.
    """
    folds = np.asarray(folds)
    _check(embeddings, labels, folds)
    names = sorted(set(labels))
    y = np.searchsorted(names, labels)
    total = _statistics(embeddings, labels, names)
    scored = _out_of_fold_scores(embeddings, y, folds, total)
    held_out = np.flatnonzero(folds >= 0)
    candidates = []
    for (solver, parameters), scores in zip(_CANDIDATES, scored.scores):
        temperature = fit_temperature(scores[held_out], y[held_out])
        candidates.append(_judge(solver, parameters, softmax(scores[held_out], temperature), y[held_out]))
    best = min(range(len(candidates)), key=lambda i: candidates[i].log_loss)
    scores = scored.scores[best][held_out]
    temperature = fit_temperature(scores, y[held_out])
    solver, parameters = _CANDIDATES[best]
    weights, bias = _SOLVE[solver](total, **parameters)
    means, _ = nearest_mean.solve(total)
    last_layer = LastLayer(
        labels=tuple(names),
        weights=weights,
        bias=bias,
        temperature=temperature,
        means=means,
        novelty_quantiles=np.quantile(scored.unusual[held_out], np.linspace(0, 1, 101)).astype(np.float32),
        novelty_threshold=NOVELTY_THRESHOLD,
        solver=solver,
    )
    return Selection(
        solver=solver,
        parameters=dict(parameters),
        last_layer=last_layer,
        statistics=total,
        out_of_fold_indices=held_out,
        out_of_fold_probabilities=softmax(scores, temperature),
        candidates=tuple(sorted(candidates, key=lambda candidate: candidate.log_loss)),
    )


def fit_temperature(scores: Floats, y: NDArray[np.int64]) -> float:
    """Find the temperature with the least log-loss, every class weighing the same, by golden section on a log scale.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    spread = float(np.std(scores)) or 1.0
    low, high = np.log(spread * 1e-3), np.log(spread * 1e3)
    weights = _class_weights(y)
    ratio = (np.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return _log_loss(softmax(scores, float(np.exp(log_temperature))), y, weights)

    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(np.float32(np.exp((low + high) / 2)))


_SOLVE = {module.NAME: module.solve for module in (nearest_mean, ridge, discriminant)}
_CANDIDATES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (nearest_mean.NAME, {}),
    *((ridge.NAME, {"penalty": penalty}) for penalty in (0.3, 1.0, 3.0)),
    *((discriminant.NAME, {"shrinkage": amount}) for amount in (0.1, 0.2, 0.3, 0.5, 0.7)),
)


class _OutOfFold(NamedTuple):
    scores: list[Floats]
    unusual: Floats


def _statistics(embeddings: NDArray[np.int16], labels: Sequence[str], names: Sequence[str]) -> Statistics:
    """Statistics whose slots are in alphabetical order."""
    order = np.argsort(np.searchsorted(names, labels), kind="stable")
    statistics = Statistics(embeddings.shape[1])
    statistics.add(embeddings[order], [labels[i] for i in order])
    return statistics


def _out_of_fold_scores(
    embeddings: NDArray[np.int16], y: NDArray[np.int64], folds: NDArray[Any], total: Statistics
) -> _OutOfFold:
    scores = [np.zeros((len(y), len(total.labels)), dtype=np.float32) for _ in _CANDIDATES]
    unusual = np.zeros(len(y), dtype=np.float32)
    for fold in np.unique(folds[folds >= 0]):
        members = np.flatnonzero(folds == fold)
        rest = total.copy()
        rest.subtract(_statistics(embeddings[members], [total.labels[i] for i in y[members]], total.labels))
        columns = [total.labels.index(name) for name in rest.labels]
        unit = embeddings[members].astype(np.float32) / 4096
        for (solver, parameters), table in zip(_CANDIDATES, scores):
            weights, bias = _SOLVE[solver](rest, **parameters)
            table[np.ix_(members, columns)] = unit @ weights + bias
        unusual[members] = unusualness(embeddings[members], nearest_mean.solve(rest)[0])
    return _OutOfFold(scores, unusual)


def _judge(solver: str, parameters: Mapping[str, Any], probabilities: Floats, y: NDArray[np.int64]) -> Candidate:
    weights = _class_weights(y)
    accuracy = float(weights @ (probabilities.argmax(axis=1) == y))
    return Candidate(solver, dict(parameters), accuracy, _log_loss(probabilities, y, weights))


def _log_loss(probabilities: Floats, y: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    right = probabilities[np.arange(len(y)), y].astype(np.float64)
    return float(weights @ -np.log(np.maximum(right, 1e-12)))


def _class_weights(y: NDArray[np.int64]) -> NDArray[np.float64]:
    counts = np.bincount(y)
    return 1.0 / (counts[y] * np.count_nonzero(counts))


def _check(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> None:
    if embeddings.ndim != 2 or not len(embeddings) == len(labels) == len(folds):
        raise LearningError(
            f"{embeddings.shape} embeddings, {len(labels)} labels and {len(folds)} folds do not fit together"
        )
    if len(set(labels)) < 2:
        raise LearningError(f"there are {len(set(labels))} classes; give at least two to tell apart")
    if not (folds >= 0).any():
        raise LearningError("no embedding is in a fold to predict; give folds 0, 1, ... besides -1")
