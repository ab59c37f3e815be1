"""Chooses the solver and calibrates temperature and novelty by cross-validation, without a test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners import cross_validation
from edgetl.learners.last_layer import Floats, LastLayer, softmax
from edgetl.learners.novelty import THRESHOLD, NoveltyModel
from edgetl.learners.refitting import solve
from edgetl.learners.solvers import SOLVERS, discriminant
from edgetl.learners.statistics import Statistics
from edgetl.learners.temperature import class_weights, fit_temperature, log_losses


class SolverResult(NamedTuple):
    """Accuracy, 0 to 1, and log-loss of one solver on held-out folds; all classes weigh the same."""

    solver: str
    parameters: dict[str, Any]
    accuracy: float
    log_loss: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen last layer, and the figures behind the choice.

    Attributes:
        solver: name of the solver.
        parameters: its keyword parameters.
        last_layer: solved from all embeddings; its classes are in alphabetical order.
        statistics: of all embeddings, with the classes in the same order.
        out_of_fold_indices: (m,), the embeddings that were predicted by a layer that had not seen them.
        out_of_fold_probabilities: (m, K) float32, columns in the order of `last_layer.labels`.
        results: those of every solver, the least log-loss first.
    """

    solver: str
    parameters: dict[str, Any]
    last_layer: LastLayer
    statistics: Statistics
    out_of_fold_indices: NDArray[np.int64]
    out_of_fold_probabilities: Floats
    results: tuple[SolverResult, ...] = field(repr=False)


def choose(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> Selection:
    """Choose the solver by cross-validation, calibrate, and solve from all embeddings.

    >>> from edgetl.learners import to_grid
    >>> raw = np.random.default_rng(0).normal(size=(40, 8)) + np.repeat([[0], [4]], 20, axis=0)
    >>> selection = choose(to_grid(raw), ["apple"] * 20 + ["pear"] * 20, np.arange(40) % 4)
    >>> selection.last_layer.labels
    ('apple', 'pear')

    Args:
        embeddings: (n, d) int16, fixed-point.
        labels: n labels.
        folds: (n,) int; fold -1 is always learned from and never predicted; each other fold is predicted by layers
            solved from all other embeddings.

    Raises:
        LearningError: fewer than two classes (also outside a fold), sizes that do not fit, or no fold to predict.
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
        results=tuple(sorted((trial.result for trial in trials), key=lambda result: result.log_loss)),
    )


_CLEARLY = 2.0
_QUANTILES = 101
_MIN_SCALE = 1e-6


class _Trial(NamedTuple):
    solver: str
    scores: Floats
    temperature: float
    losses: NDArray[np.float64]
    """(m,) log-losses, weighted so that each class contributes equally to their sum."""
    hits: NDArray[np.float64]
    """(m,) 1 for a right prediction, weighted in the same way."""

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
    def result(self) -> SolverResult:
        return SolverResult(self.solver, self.parameters, self.accuracy, self.log_loss)


def _preferred(trials: Sequence[_Trial]) -> _Trial:
    """The discriminant, unless another solver is right more often by more than two standard errors.

    At the same accuracy the discriminant is better for the device: new classes with few pictures gain the most.
    """
    default = next(trial for trial in trials if trial.solver == discriminant.NAME)
    rival = max(trials, key=lambda trial: trial.accuracy)
    return rival if _standard_errors_above_zero(rival.hits - default.hits) > _CLEARLY else default


def _standard_errors_above_zero(differences: NDArray[np.float64]) -> float:
    """The sum of paired differences (m,) in units of its standard error."""
    error = float(np.sqrt(len(differences)) * differences.std())
    return float(differences.sum()) / error if error > 0 else 0.0


def _gather(embeddings: NDArray[np.int16], y: NDArray[np.int64], names: Sequence[str]) -> Statistics:
    """Statistics of all embeddings, with the classes in the order of `names`."""
    order = np.argsort(y, kind="stable")
    statistics = Statistics(embeddings.shape[1])
    statistics.add(embeddings[order], [names[index] for index in y[order]])
    return statistics


def _solve(total: Statistics, chosen: _Trial, predicted: cross_validation.OutOfFold) -> LastLayer:
    solution = solve(chosen.solver, total, chosen.parameters)
    scales, quantiles = _novelty_calibration(predicted.whitened, predicted.plain)
    return LastLayer(
        labels=total.labels,
        weights=solution.weights,
        bias=solution.bias,
        temperature=chosen.temperature,
        novelty_model=NoveltyModel.of(solution.directions, scales, quantiles, THRESHOLD),
        solver=chosen.solver,
    )


def _novelty_calibration(whitened: Floats, plain: Floats) -> tuple[Floats, Floats]:
    """Return scales (2,) and quantiles (q,) of novelty, from squared distances (m, K) of known images."""
    spreads = [float(np.std(distances.min(axis=1))) for distances in (whitened, plain)]
    scales = np.maximum(spreads, _MIN_SCALE).astype(np.float32)
    unusual = (whitened / scales[0] + plain / scales[1]).min(axis=1)
    return scales, np.quantile(unusual, np.linspace(0, 1, _QUANTILES)).astype(np.float32)


def _check(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> None:
    if embeddings.ndim != 2 or not len(embeddings) == len(labels) == len(folds):
        raise LearningError(
            f"{embeddings.shape} embeddings, {len(labels)} labels and {len(folds)} folds do not fit together"
        )
    if len(set(labels)) < 2:
        raise LearningError(f"received {len(set(labels))} classes; a classifier needs at least two")
    for fold in np.unique(folds[folds >= 0]):
        if len({label for label, other in zip(labels, folds) if other != fold}) < 2:
            raise LearningError(f"fewer than two classes are outside fold {fold}; spread the classes over the folds")
    if not (folds >= 0).any():
        raise LearningError("no embedding is in a fold that is predicted; use folds 0, 1, ... besides -1")
