"""Hides how solver, temperature and novelty are chosen without a test split; build calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners import cross_validation
from edgetl.learners.last_layer import Floats, LastLayer, softmax
from edgetl.learners.novelty import NoveltyModel
from edgetl.learners.refitting import solve
from edgetl.learners.solvers import SOLVERS, discriminant
from edgetl.learners.statistics import Statistics
from edgetl.learners.temperature import class_weights, fit_temperature, log_losses

NOVELTY_THRESHOLD = 0.98
"""The share of known images that pass as known."""


class Candidate(NamedTuple):
    """What one solver reached on held-out folds; all classes weigh the same."""

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
        last_layer: solved from all embeddings, classes in alphabetical order.
        statistics: of all embeddings, slots in the same order.
        out_of_fold_indices: (m,) the embeddings that were predicted by a layer which had not seen them.
        out_of_fold_probabilities: (m, K) float32, columns in the order of last_layer.labels.
        candidates: everything that was tried, the least log-loss first.
    """

    solver: str
    parameters: dict[str, Any]
    last_layer: LastLayer
    statistics: Statistics
    out_of_fold_indices: NDArray[np.int64]
    out_of_fold_probabilities: Floats
    candidates: tuple[Candidate, ...] = field(repr=False)


def choose(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> Selection:
    """Choose the solver by cross-validation, calibrate, and solve from everything.

    Args:
        embeddings: (n, d) int16, on the grid.
        labels: n labels.
        folds: (n,) int; -1 is always trained on and never predicted; each other fold is predicted by a layer
            solved from everything else.

    Raises:
        LearningError: fewer than two classes, sizes that do not fit, or no fold to predict.
    """
    embeddings, folds = np.asarray(embeddings), np.asarray(folds)
    _check(embeddings, labels, folds)
    names = sorted(set(labels))
    y = np.searchsorted(names, labels)
    total = _gather(embeddings, y, names)
    predicted = cross_validation.predict(embeddings, y, folds, total)
    trials = [_Trial.of(solver, scores, y[predicted.indices]) for solver, scores in predicted.scores.items()]
    chosen = _preferred(trials)
    return Selection(
        solver=chosen.solver,
        parameters=chosen.parameters,
        last_layer=_solve(total, chosen, predicted),
        statistics=total,
        out_of_fold_indices=predicted.indices,
        out_of_fold_probabilities=softmax(chosen.scores, chosen.temperature),
        candidates=tuple(sorted((trial.candidate for trial in trials), key=lambda c: c.log_loss)),
    )


_CLEARLY = 2.0
_QUANTILES = 101
_LEAST_SCALE = 1e-6


class _Trial(NamedTuple):
    solver: str
    scores: Floats
    temperature: float
    losses: NDArray[np.float64]
    """(m,) log-losses, weighted so that their sum gives each class the same weight."""
    hits: NDArray[np.float64]
    """(m,) the same for right answers."""

    @classmethod
    def of(cls, solver: str, scores: Floats, y: NDArray[np.int64]) -> _Trial:
        weights = class_weights(y)
        temperature = fit_temperature(scores, y)
        losses = weights * log_losses(scores, y, temperature)
        return cls(solver, scores, temperature, losses, weights * (scores.argmax(axis=1) == y))

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(SOLVERS[self.solver].PARAMETERS)

    @property
    def log_loss(self) -> float:
        return float(self.losses.sum())

    @property
    def accuracy(self) -> float:
        return float(self.hits.sum())

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.solver, self.parameters, self.accuracy, self.log_loss)


def _preferred(trials: Sequence[_Trial]) -> _Trial:
    """The discriminant, unless another solver is clearly more often right.

    On a par, the discriminant serves the device better: new classes with few pictures profit from it most.
    """
    home = next(trial for trial in trials if trial.solver == discriminant.NAME)
    rival = max(trials, key=lambda trial: trial.accuracy)
    return rival if _error_steps(rival.hits - home.hits) > _CLEARLY else home


def _error_steps(differences: NDArray[np.float64]) -> float:
    """How many of its standard errors the sum of paired differences lies above zero."""
    error = float(np.sqrt(len(differences)) * differences.std())
    return float(differences.sum()) / error if error > 0 else 0.0


def _gather(embeddings: NDArray[np.int16], y: NDArray[np.int64], names: Sequence[str]) -> Statistics:
    """Statistics of everything, slots in alphabetical order."""
    order = np.argsort(y, kind="stable")
    statistics = Statistics(embeddings.shape[1])
    statistics.add(embeddings[order], [names[slot] for slot in y[order]])
    return statistics


def _solve(total: Statistics, chosen: _Trial, predicted: cross_validation.OutOfFold) -> LastLayer:
    solution = solve(chosen.solver, total, chosen.parameters)
    scales, quantiles = _usual(predicted.whitened, predicted.plain)
    return LastLayer(
        labels=total.labels,
        weights=solution.weights,
        bias=solution.bias,
        temperature=chosen.temperature,
        novelty_model=NoveltyModel.of(solution.directions, scales, quantiles, NOVELTY_THRESHOLD),
        solver=chosen.solver,
    )


def _usual(whitened: Floats, plain: Floats) -> tuple[Floats, Floats]:
    """Scales (2,) and quantiles (q,) of novelty, from squared distances (m, K) of known images."""
    spreads = [float(np.std(distances.min(axis=1))) for distances in (whitened, plain)]
    scales = np.maximum(spreads, _LEAST_SCALE).astype(np.float32)
    unusual = (whitened / scales[0] + plain / scales[1]).min(axis=1)
    return scales, np.quantile(unusual, np.linspace(0, 1, _QUANTILES)).astype(np.float32)


def _check(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> None:
    if embeddings.ndim != 2 or not len(embeddings) == len(labels) == len(folds):
        raise LearningError(
            f"{embeddings.shape} embeddings, {len(labels)} labels and {len(folds)} folds do not fit together"
        )
    if len(set(labels)) < 2:
        raise LearningError(f"there are {len(set(labels))} classes; give at least two to tell apart")
    for fold in np.unique(folds[folds >= 0]):
        if len({label for label, other in zip(labels, folds) if other != fold}) < 2:
            raise LearningError(f"outside fold {fold} there are not two classes; spread the classes over folds")
    if not (folds >= 0).any():
        raise LearningError("no embedding is in a fold to predict; give folds 0, 1, ... besides -1")
