"""Hides how it is chosen what of the shipped statistics still serves under new conditions; the Learner calls it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners.condition_weights import between, spanning, with_points
from edgetl.learners.last_layer import Floats, unit_length
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.refitting import weights_of
from edgetl.learners.statistics import Statistics
from edgetl.learners.temperature import class_weights, fit_temperature, log_losses

HALVINGS = tuple(range(1, 9))
"""How often the counts of what was shipped may be halved."""

WORTH_THE_OLD = 0.2
"""So much more accuracy under the new conditions, 0 to 1, is worth giving the old ones up."""

LEAST_PICTURES = 4
"""Taught of each class, on average, before leave-one-out may give the old conditions up; by fewer it errs too often."""


@dataclass(frozen=True)
class Adaptation:
    """What leave-one-out on the taught pictures chose; see `Weighing` for what it means.

    Attributes:
        halvings: by class, how often the count of its shipped embeddings is halved; 0 where it keeps its weight.
        spanned: the classes that are to hold under old and new conditions alike; none of them is halved.
        before: accuracy, 0 to 1, on the taught pictures with what is in effect, each judged by a layer that
            has not seen it; all classes count the same.
        after: the same with what was chosen.
        pictures: how many taught pictures that rests on.
        helps: whether the choice is another one than what is in effect.
    """

    halvings: dict[str, int]
    spanned: tuple[str, ...]
    before: float
    after: float
    pictures: int
    helps: bool


def adapt(
    solver: str,
    parameters: Mapping[str, Any],
    statistics: Statistics,
    rows: NDArray[np.int16],
    labels: Sequence[str],
    classes: Sequence[str],
    halvings: Mapping[str, int],
    spanned: Collection[str] = (),
    leave_old: bool = False,
) -> Adaptation:
    """Choose how what was shipped of each class should count beside what was taught of it.

    All classes of which something was taught are treated alike: a choice for each follows a few pictures too closely
    and did harm where nothing had changed. They are spanned where leave-one-out finds that more often right, and
    surer by more than a standard error of the difference in log-loss (Breiman et al., CART, 1984); it costs the old
    conditions next to nothing. Halving does: of `LEAST_PICTURES` it is taken where it is more often right by
    `WORTH_THE_OLD` and surer by two standard errors, and then the weakest that leave-one-out cannot tell from the one
    with the least log-loss. So the same pictures always lead to the same choice, whatever was chosen before.

    Args:
        solver: name of the solver of the last layer, whose parameters are `parameters`.
        statistics: of what was shipped and what was taught.
        rows: (n, d) the taught embeddings, on the grid.
        labels: their n labels.
        classes: those that compete.
        halvings, spanned: what is in effect.
        leave_old: whether the old conditions are worth nothing any more.

    Raises:
        LearningError: nothing was taught of a class that was shipped.
    """
    trial = HeldOut(solver, parameters, statistics, rows, labels, classes)
    movable = trial.movable
    if not movable:
        raise LearningError("nothing was taught of a shipped class; teach some of its pictures as they look now first")
    now = trial.judge({label: halvings.get(label, 0) for label in movable}, set(spanned) & set(movable))
    whole = trial.judge(dict.fromkeys(movable, 0))
    spanned_all = trial.judge(dict.fromkeys(movable, 0), set(movable))
    chosen = spanned_all if spanned_all.is_better(whole, _ON_A_PAR) else whole
    if len(rows) >= LEAST_PICTURES * len(set(labels)):
        chosen = _halved(trial, (whole, spanned_all), 0.0 if leave_old else WORTH_THE_OLD) or chosen
    helps = (chosen.halvings, chosen.spanned) != (now.halvings, now.spanned)
    held = tuple(label for label in movable if label in chosen.spanned)
    return Adaptation(chosen.halvings, held, now.accuracy, chosen.accuracy, len(rows), helps)


@dataclass(frozen=True)
class Judged:
    """What a choice reached on pictures left out."""

    halvings: dict[str, int]
    spanned: set[str]
    losses: NDArray[np.float64]
    """(n,) log-losses, weighted so that their sum gives each class the same weight."""
    accuracy: float

    @property
    def loss(self) -> float:
        """The log-loss over all classes."""
        return float(self.losses.sum())

    def steps_below(self, other: Judged) -> float:
        """How many of its standard errors the difference of the losses lies below that of another choice."""
        differences = other.losses - self.losses
        error = float(np.sqrt(len(differences)) * differences.std())
        return float(differences.sum()) / error if error > 0 else 0.0

    def is_better(self, other: Judged, steps: float, by: float = 0.0) -> bool:
        """Whether it is more often right, by more than so much, and surer by more than so many standard errors."""
        return self.accuracy > other.accuracy + by and self.steps_below(other) > steps


class HeldOut:
    """The taught pictures, each judged by layers that have not seen it.

    All these layers share the covariance of what was shipped, so they need one factorisation; up to _FOLDS pictures
    are left out one by one, more of them in so many folds.
    """

    def __init__(
        self,
        solver: str,
        parameters: Mapping[str, Any],
        statistics: Statistics,
        rows: NDArray[np.int16],
        labels: Sequence[str],
        classes: Sequence[str],
    ) -> None:
        shipped = statistics.copy()
        shipped.remove(rows, labels)
        moments = Moments.of(shipped)
        self._solver, self._parameters, self._classes = solver, parameters, list(classes)
        self._rows = unit_length(rows)
        self._y = np.array([self._classes.index(label) for label in labels], dtype=np.int64)
        self._folds = _folds(self._y)
        self._shipped = np.zeros((len(self._classes), len(shipped.labels) + len(rows)))
        for slot, label in enumerate(shipped.labels):
            if label in self._classes:
                self._shipped[self._classes.index(label), slot] = moments.counts[slot]
        self._taught = np.zeros_like(self._shipped)
        self._taught[self._y, len(shipped.labels) + np.arange(len(rows))] = 1
        self._points = with_points(moments, self._rows, parameters.get("shrinkage", SHRINKAGE))

    @property
    def movable(self) -> list[str]:
        """The classes of which something was shipped and something was taught."""
        both = np.flatnonzero(self._shipped.any(axis=1) & self._taught.any(axis=1))
        return [self._classes[slot] for slot in both]

    def judge(self, halvings: Mapping[str, int], spanned: Collection[str] = ()) -> Judged:
        """What such a choice reaches."""
        weights = np.array([0.5 ** halvings.get(label, 0) for label in self._classes])
        scores = self._scores(weights, np.array([label in spanned for label in self._classes]))
        losses = class_weights(self._y) * log_losses(scores, self._y, fit_temperature(scores, self._y))
        hits = class_weights(self._y) @ (scores.argmax(axis=1) == self._y)
        return Judged(dict(halvings), set(spanned), losses, float(hits))

    def _scores(self, weights: NDArray[np.float64], spanned: NDArray[np.bool_]) -> Floats:
        """(n, K) the scores of each picture, by layers in which the shipped embeddings have these weights (K,)."""
        scores = np.empty((len(self._rows), len(self._classes)), dtype=np.float32)
        for fold in np.unique(self._folds):
            left_out = self._folds == fold
            taught = self._taught.copy()
            taught[:, -len(self._rows) :][:, left_out] = 0
            weighed = np.where(taught.any(axis=1), weights, 1.0)
            shares = self._shipped * weighed[:, None] + taught
            known = np.flatnonzero(shares.any(axis=1))
            points = self._with_differences(taught, weights, spanned)
            layer = weights_of(self._solver, _mixed(points, shares[known]), self._parameters)
            found = self._rows[left_out] @ layer[0] + layer[1]
            scores[left_out] = found.min(axis=1, keepdims=True)
            scores[np.ix_(left_out, known)] = found
        return scores

    def _with_differences(
        self, taught: NDArray[np.float64], weights: NDArray[np.float64], spanned: NDArray[np.bool_]
    ) -> Directions:
        """The points, in whose covariance what was taught of a class differs from what was shipped of it."""
        both = np.flatnonzero(self._shipped.any(axis=1) & taught.any(axis=1))
        if not len(both):
            return self._points
        shipped, pictures = self._shipped[both].sum(axis=1), taught[both].sum(axis=1)
        differences = taught[both] / pictures[:, None] - self._shipped[both] / shipped[:, None]
        halved = between(weights[both] * shipped, pictures)
        amounts = np.where(spanned[both], spanning(shipped, pictures), halved)
        return self._points.with_scatter(differences, amounts)


def _halved(trial: HeldOut, others: Sequence[Judged], worth: float) -> Optional[Judged]:
    """The least halving that gives what the old conditions are worth, where one does."""
    halved = [trial.judge(dict.fromkeys(trial.movable, count)) for count in HALVINGS]
    best = min(halved, key=lambda judged: judged.loss)
    weakest = next(judged for judged in halved if best.steps_below(judged) <= _ON_A_PAR)
    return weakest if all(weakest.is_better(other, _CLEARLY, worth) for other in others) else None


_FOLDS = 50
_ON_A_PAR = 1.0
_CLEARLY = 2.0


def _mixed(points: Directions, shares: NDArray[np.float64]) -> Directions:
    """Directions of classes whose means are mixtures of the points, by shares (K, p)."""
    counts = shares.sum(axis=1)
    mixture = shares / counts[:, None]
    mixed = replace(
        points,
        counts=counts,
        means=mixture @ points.means,
        vectors=points.vectors @ mixture.T,
        products=mixture @ points.products @ mixture.T,
    )
    return mixed.seen_from(np.ones(len(counts)))


def _folds(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) folds as alike as can be: the pictures of a class go round."""
    folds = np.empty(len(y), dtype=np.int64)
    folds[np.argsort(y, kind="stable")] = np.arange(len(y)) % _FOLDS
    return folds
