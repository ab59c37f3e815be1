"""Hides how solver, shrinkage, temperature and novelty are chosen without a test split; build calls it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners import discriminant, nearest_mean, ridge
from edgetl.learners.calibration import class_weights, fit_temperature, log_losses
from edgetl.learners.embedding import GRID
from edgetl.learners.last_layer import Floats, LastLayer, softmax, unit_length
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.statistics import Statistics

NOVELTY_THRESHOLD = 0.98
"""The share of known images that pass as known."""


class Candidate(NamedTuple):
    """What one solver with one set of parameters reached on held-out folds; all classes weigh the same."""

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
    """Choose solver and shrinkage by cross-validation, calibrate, and solve from everything.

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
    predicted = _predict_folds(embeddings, y, folds, total)
    trials = [_Trial.of(*candidate, scores, y[predicted.indices]) for candidate, scores in predicted.scores()]
    chosen = _preferred(trials)
    solve = _SOLVERS[chosen.solver].solve
    weights, bias = solve(total, **chosen.parameters)
    last_layer = LastLayer(
        labels=tuple(names),
        weights=weights,
        bias=bias,
        temperature=chosen.temperature,
        means=nearest_mean.solve(total)[0],
        novelty_quantiles=_quantiles(predicted.unusual),
        novelty_threshold=NOVELTY_THRESHOLD,
        solver=chosen.solver,
    )
    return Selection(
        solver=chosen.solver,
        parameters=dict(chosen.parameters),
        last_layer=last_layer,
        statistics=total,
        out_of_fold_indices=predicted.indices,
        out_of_fold_probabilities=softmax(chosen.scores, chosen.temperature),
        candidates=tuple(sorted((trial.candidate() for trial in trials), key=lambda c: c.log_loss)),
    )


_SHRINKAGES = (0.1, 0.2, 0.3, 0.5, 0.7)
_SOLVERS = {module.NAME: module for module in (nearest_mean, ridge, discriminant)}
_CANDIDATES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (nearest_mean.NAME, {}),
    *((solver.NAME, {"shrinkage": amount}) for amount in _SHRINKAGES for solver in (ridge, discriminant)),
)
_QUANTILES = 101
_JITTER = 1e-9


class _Predicted(NamedTuple):
    """What layers that had not seen them say of the embeddings `indices` (m,)."""

    indices: NDArray[np.int64]
    tables: Floats
    unusual: Floats

    def scores(self) -> Iterator[tuple[tuple[str, Mapping[str, Any]], Floats]]:
        return zip(_CANDIDATES, self.tables)


class _Trial(NamedTuple):
    solver: str
    parameters: Mapping[str, Any]
    scores: Floats
    temperature: float
    losses: NDArray[np.float64]
    """(m,) log-losses, weighted so that their sum gives each class the same weight."""
    accuracy: float

    @classmethod
    def of(cls, solver: str, parameters: Mapping[str, Any], scores: Floats, y: NDArray[np.int64]) -> _Trial:
        weights = class_weights(y)
        temperature = fit_temperature(scores, y)
        losses = weights * log_losses(scores, y, temperature)
        accuracy = float(weights @ (scores.argmax(axis=1) == y))
        return cls(solver, parameters, scores, temperature, losses, accuracy)

    def candidate(self) -> Candidate:
        return Candidate(self.solver, dict(self.parameters), self.accuracy, float(self.losses.sum()))


def _preferred(trials: Iterable[_Trial]) -> _Trial:
    """The best discriminant, unless another solver beats it by more than a standard error.

    On a par, the discriminant serves the device better: new classes with few pictures profit from it most.
    """
    ranked = sorted(trials, key=lambda trial: float(trial.losses.sum()))
    best, home = ranked[0], next(trial for trial in ranked if trial.solver == discriminant.NAME)
    gains = home.losses - best.losses
    return best if gains.sum() > np.sqrt(len(gains)) * gains.std() else home


def _gather(embeddings: NDArray[np.int16], y: NDArray[np.int64], names: Sequence[str]) -> Statistics:
    """Statistics of everything, slots in alphabetical order."""
    order = np.argsort(y, kind="stable")
    statistics = Statistics(embeddings.shape[1])
    statistics.add(embeddings[order], [names[slot] for slot in y[order]])
    return statistics


def _predict_folds(
    embeddings: NDArray[np.int16], y: NDArray[np.int64], folds: NDArray[Any], total: Statistics
) -> _Predicted:
    indices = np.flatnonzero(folds >= 0)
    rows = _coordinates(embeddings)
    tables = np.zeros((len(_CANDIDATES), len(indices), len(total.labels)), dtype=np.float32)
    unusual = np.zeros(len(indices), dtype=np.float32)
    for fold in np.unique(folds[indices]):
        rest, members = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        places = np.searchsorted(indices, members)
        present, slots = np.unique(y[rest], return_inverse=True)
        if rows is None:
            moments = _moments_without(total, embeddings[members], y[members])
            held_out: NDArray[Any] = unit_length(embeddings[members])
        else:
            moments = Moments.of_rows(rows[rest], slots, embeddings.shape[1])
            held_out = rows[members]
        for table, (weights, bias) in zip(tables, _solutions(moments)):
            scores = held_out @ weights + bias
            table[places] = scores.min(axis=1, keepdims=True)
            table[places[:, None], present] = scores
        unusual[places] = 1 - tables[0, places].max(axis=1)
    return _Predicted(indices, tables, unusual)


def _coordinates(embeddings: NDArray[np.int16]) -> Optional[NDArray[np.float64]]:
    """(n, n) rows with the inner products of the embeddings, where these are fewer than their dimension.

    Solvers see embeddings through inner products alone, so in these coordinates, the Cholesky factor of all of
    them, they find the same scores from smaller systems.
    """
    if len(embeddings) >= embeddings.shape[1]:
        return None
    unit = embeddings / np.float64(GRID)
    products = unit @ unit.T
    products.flat[:: len(products) + 1] += _JITTER
    return np.linalg.cholesky(products)


def _moments_without(total: Statistics, embeddings: NDArray[np.int16], y: NDArray[np.int64]) -> Moments:
    rest = total.copy()
    rest.remove(embeddings, [total.labels[slot] for slot in y])
    return Moments.of(rest)


def _solutions(moments: Moments) -> Iterator[tuple[Floats, Floats]]:
    """Solve for every candidate in turn; those of the same shrinkage share one factorisation."""
    yield nearest_mean.from_means(moments.means)
    for amount in _SHRINKAGES:
        directions = Directions.of(moments, amount)
        yield ridge.from_directions(directions)
        yield discriminant.from_directions(directions)


def _quantiles(unusual: Floats) -> Floats:
    return np.quantile(unusual, np.linspace(0, 1, _QUANTILES)).astype(np.float32)


def _check(embeddings: NDArray[np.int16], labels: Sequence[str], folds: NDArray[Any]) -> None:
    if embeddings.ndim != 2 or not len(embeddings) == len(labels) == len(folds):
        raise LearningError(
            f"{embeddings.shape} embeddings, {len(labels)} labels and {len(folds)} folds do not fit together"
        )
    if len(set(labels)) < 2:
        raise LearningError(f"there are {len(set(labels))} classes; give at least two to tell apart")
    for fold in np.unique(folds[folds >= 0]):
        if len({label for label, other in zip(labels, folds) if other != fold}) < 2:
            raise LearningError(f"outside fold {fold} fewer than two classes are left; spread the classes over folds")
    if not (folds >= 0).any():
        raise LearningError("no embedding is in a fold to predict; give folds 0, 1, ... besides -1")
