"""Chooses how shipped statistics count beside taught pictures once conditions have changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import LearningError
from edgetl.learners.condition_weights import directions_with_points, scatter_weight, spanning_weight
from edgetl.learners.last_layer import Floats, unit_length
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.refitting import weights_of
from edgetl.learners.statistics import Statistics
from edgetl.learners.temperature import class_weights, fit_temperature, log_losses

HALVINGS = tuple(range(1, 9))
"""The numbers of halvings of the shipped counts that are tried."""

MIN_ACCURACY_GAIN = 0.2
"""The gain in accuracy under the new conditions, 0 to 1, for which the old conditions are given up."""

MIN_PICTURES_PER_CLASS = 4
"""Taught pictures per class, on average, that halving requires. With fewer, leave-one-out is wrong too often."""


@dataclass(frozen=True)
class Adaptation:
    """The condition weights that leave-one-out on the taught pictures chose; see `ConditionWeights`.

    Attributes:
        halvings: by class, how often the count of its shipped embeddings is halved; 0 keeps its weight.
        spanned: the classes that hold under old and new conditions alike; none of them is halved.
        before: accuracy, 0 to 1, on the taught pictures with the condition weights in effect. Each picture is scored
            by a layer that has not seen it; all classes weigh the same.
        after: the same with the chosen condition weights.
        pictures: the number of taught pictures behind these figures.
        helps: whether the choice differs from what is in effect.
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
    """Choose how the shipped embeddings of each class count beside the taught ones.

    All classes that were both shipped and taught are treated alike: a separate choice for each follows a few pictures
    too closely, and did harm where nothing had changed.

    - The classes are spanned if leave-one-out then is right more often, and its log-loss is lower by more than one
      standard error of the difference (Breiman et al., CART, 1984). This costs almost no accuracy under the old
      conditions.
    - The shipped counts are halved, which does cost accuracy there, only with `MIN_PICTURES_PER_CLASS`, and only if
      accuracy rises by more than `MIN_ACCURACY_GAIN` and log-loss falls by more than two standard errors. Of the
      numbers of halvings within one standard error of the least log-loss, the smallest is taken.

    The same pictures always lead to the same choice, whatever was chosen before.

    Args:
        solver: name of the last layer's solver.
        parameters: its keyword parameters.
        statistics: of all shipped and taught embeddings.
        rows: (n, d) int16, the taught fixed-point embeddings.
        labels: their n labels.
        classes: the classes that compete.
        halvings: in effect, by class; see `Adaptation`.
        spanned: the classes that are spanned now.
        leave_old: give the old conditions up for any gain in accuracy.

    Raises:
        LearningError: no shipped class was taught.
    """
    trial = LeaveOneOut(solver, parameters, statistics, rows, labels, classes)
    adaptable = trial.adaptable
    if not adaptable:
        raise LearningError("nothing was taught of a shipped class; teach some of its pictures as they look now first")
    in_effect = trial.evaluate({label: halvings.get(label, 0) for label in adaptable}, set(spanned) & set(adaptable))
    unchanged = trial.evaluate(dict.fromkeys(adaptable, 0))
    all_spanned = trial.evaluate(dict.fromkeys(adaptable, 0), set(adaptable))
    chosen = all_spanned if all_spanned.is_better(unchanged, _EQUIVALENT) else unchanged
    if len(rows) >= MIN_PICTURES_PER_CLASS * len(set(labels)):
        min_gain = 0.0 if leave_old else MIN_ACCURACY_GAIN
        chosen = _best_halving(trial, (unchanged, all_spanned), min_gain) or chosen
    return Adaptation(
        halvings=chosen.halvings,
        spanned=tuple(label for label in adaptable if label in chosen.spanned),
        before=in_effect.accuracy,
        after=chosen.accuracy,
        pictures=len(rows),
        helps=(chosen.halvings, chosen.spanned) != (in_effect.halvings, in_effect.spanned),
    )


@dataclass(frozen=True)
class Evaluation:
    """How well a choice of condition weights predicts held-out pictures."""

    halvings: dict[str, int]
    spanned: set[str]
    losses: NDArray[np.float64]
    """(n,) log-losses, weighted so that each class contributes equally to their sum."""
    accuracy: float
    """0 to 1; all classes weigh the same."""

    @property
    def loss(self) -> float:
        """The log-loss over all classes."""
        return float(self.losses.sum())

    def standard_errors_below(self, other: Evaluation) -> float:
        """By how many standard errors of the paired difference the log-loss is below that of the other."""
        differences = other.losses - self.losses
        error = float(np.sqrt(len(differences)) * differences.std())
        return float(differences.sum()) / error if error > 0 else 0.0

    def is_better(self, other: Evaluation, standard_errors: float, min_gain: float = 0.0) -> bool:
        """Whether accuracy is higher by more than `min_gain`, and log-loss lower by more than `standard_errors`."""
        return self.accuracy > other.accuracy + min_gain and self.standard_errors_below(other) > standard_errors


class LeaveOneOut:
    """Evaluates condition weights on the taught pictures, each scored by a layer that has not seen it.

    Every class mean is a mixture of p = S + n points: the means of the S shipped classes, followed by the n taught
    pictures. A composition (K, p) says how many embeddings of each class lie at each point. All layers share the
    covariance of the shipped embeddings, so one factorisation, over the points, serves all of them.

    Up to `_FOLDS` pictures are left out one by one; more are left out in that many folds.
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
        self._folds = _balanced_folds(self._y)
        self._picture_points = len(shipped.labels) + np.arange(len(rows))
        self._shipped = np.zeros((len(self._classes), len(shipped.labels) + len(rows)))
        for point, label in enumerate(shipped.labels):
            if label in self._classes:
                self._shipped[self._classes.index(label), point] = moments.counts[point]
        self._taught = np.zeros_like(self._shipped)
        self._taught[self._y, self._picture_points] = 1
        self._points = directions_with_points(moments, self._rows, parameters.get("shrinkage", SHRINKAGE))

    @property
    def adaptable(self) -> list[str]:
        """The classes that were both shipped and taught."""
        return [self._classes[index] for index in self._shipped_and_taught(self._taught)]

    def evaluate(self, halvings: Mapping[str, int], spanned: Collection[str] = ()) -> Evaluation:
        """Evaluate one choice of condition weights; see `Adaptation` for the arguments."""
        weights = np.array([0.5 ** halvings.get(label, 0) for label in self._classes])
        scores = self._scores(weights, np.array([label in spanned for label in self._classes]))
        losses = class_weights(self._y) * log_losses(scores, self._y, fit_temperature(scores, self._y))
        accuracy = class_weights(self._y) @ (scores.argmax(axis=1) == self._y)
        return Evaluation(dict(halvings), set(spanned), losses, float(accuracy))

    def _scores(self, weights: NDArray[np.float64], spanned: NDArray[np.bool_]) -> Floats:
        """(n, K) float32 scores of all pictures; `weights` (K,) multiply the counts of the shipped embeddings."""
        scores = np.empty((len(self._rows), len(self._classes)), dtype=np.float32)
        for fold in np.unique(self._folds):
            left_out = self._folds == fold
            scores[left_out] = self._scores_without(left_out, weights, spanned)
        return scores

    def _scores_without(
        self, left_out: NDArray[np.bool_], weights: NDArray[np.float64], spanned: NDArray[np.bool_]
    ) -> Floats:
        """(m, K) scores of the m pictures `left_out` (n,), by a layer solved without them.

        A class that has no embeddings without them gets the lowest score.
        """
        taught = self._taught_without(left_out)
        composition = self._weighted_shipped(weights, taught) + taught
        known = np.flatnonzero(composition.any(axis=1))
        points = self._with_condition_differences(taught, weights, spanned)
        class_means = _mixtures(points, composition[known])
        layer_weights, bias = weights_of(self._solver, class_means, self._parameters)
        known_scores = self._rows[left_out] @ layer_weights + bias
        scores = np.repeat(known_scores.min(axis=1, keepdims=True), len(self._classes), axis=1)
        scores[:, known] = known_scores
        return scores

    def _taught_without(self, left_out: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(K, p) the composition of the classes by taught pictures, without those `left_out` (n,)."""
        taught = self._taught.copy()
        taught[:, self._picture_points[left_out]] = 0
        return taught

    def _weighted_shipped(self, weights: NDArray[np.float64], taught: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, p) the composition by shipped embeddings; a class without taught pictures keeps its full weight."""
        effective = np.where(taught.any(axis=1), weights, 1.0)
        return self._shipped * effective[:, None]

    def _with_condition_differences(
        self, taught: NDArray[np.float64], weights: NDArray[np.float64], spanned: NDArray[np.bool_]
    ) -> Directions:
        """The points, after the difference between each class's shipped and taught mean has joined the covariance."""
        both = self._shipped_and_taught(taught)
        if not len(both):
            return self._points
        shipped_counts, taught_counts = self._shipped[both].sum(axis=1), taught[both].sum(axis=1)
        shipped_means = self._shipped[both] / shipped_counts[:, None]
        taught_means = taught[both] / taught_counts[:, None]
        amounts = np.where(
            spanned[both],
            spanning_weight(shipped_counts, taught_counts),
            scatter_weight(weights[both] * shipped_counts, taught_counts),
        )
        return self._points.with_scatter(taught_means - shipped_means, amounts)

    def _shipped_and_taught(self, taught: NDArray[np.float64]) -> NDArray[np.int64]:
        """The indices of the classes with both shipped embeddings and, in this composition, taught pictures."""
        return np.flatnonzero(self._shipped.any(axis=1) & taught.any(axis=1))


_FOLDS = 50
_EQUIVALENT = 1.0
"""Choices within this many standard errors of each other count as equally good."""
_CLEARLY = 2.0
"""The standard errors by which halving must be better."""


def _best_halving(trial: LeaveOneOut, others: Sequence[Evaluation], min_gain: float) -> Optional[Evaluation]:
    """The fewest halvings that are as good as the best number; None if they are not clearly better than the others."""
    halved = [trial.evaluate(dict.fromkeys(trial.adaptable, count)) for count in HALVINGS]
    best = min(halved, key=lambda evaluation: evaluation.loss)
    fewest = next(evaluation for evaluation in halved if best.standard_errors_below(evaluation) <= _EQUIVALENT)
    return fewest if all(fewest.is_better(other, _CLEARLY, min_gain) for other in others) else None


def _mixtures(points: Directions, composition: NDArray[np.float64]) -> Directions:
    """Directions of classes whose means are mixtures of the points, by a composition (K, p)."""
    counts = composition.sum(axis=1)
    shares = composition / counts[:, None]
    mixed = replace(
        points,
        counts=counts,
        means=shares @ points.means,
        vectors=points.vectors @ shares.T,
        products=shares @ points.products @ shares.T,
    )
    return mixed.recentred(np.ones(len(counts)))


def _balanced_folds(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) folds from 0; the pictures of each class are spread over them evenly."""
    folds = np.empty(len(y), dtype=np.int64)
    folds[np.argsort(y, kind="stable")] = np.arange(len(y)) % _FOLDS
    return folds
