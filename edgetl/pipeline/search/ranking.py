"""Ranks the trials of a search: which go on to more training, and which one is picked. Test photos are not used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from edgetl.errors import DataError
from edgetl.evaluation import wording
from edgetl.pipeline.budget import Excess
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.trial import TrialResult

KEPT_SHARE = 1 / 3
"""Share that successive halving keeps in each round (Jamieson and Talwalkar 2016, arXiv 1502.07943; the share as in
Li et al. 2018, arXiv 1603.06560)."""

_LEAST_PROBABILITY = 1e-6
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class FinishedTrial:
    """A recipe with its result, and its cost on the board: milliseconds, or MACs if no latency is known.

    `excess` says how far it exceeds the budget; None if it does not.
    """

    recipe: Recipe
    result: TrialResult
    cost: float
    excess: Optional[Excess] = None


class Ranking(NamedTuple):
    """All trials compared on the photos that were held out in every one of them.

    `right` (trials, n) is 1 for right predictions, and `losses` (trials, n) are the log-losses in nats. The rest are
    positions of trials: `front` of those that no other trial beats in accuracy, log-loss, cost and size at once,
    `pick` of the chosen one, `best` of the most accurate one.
    """

    right: np.ndarray
    losses: np.ndarray
    front: frozenset[int]
    pick: int
    best: int

    def accuracy(self, position: int) -> float:
        """The share of right predictions of one trial."""
        return float(self.right[position].mean())

    def log_loss(self, position: int) -> float:
        """The mean log-loss of one trial, in nats."""
        return float(self.losses[position].mean())


def promote(trials: Sequence[FinishedTrial], share: float = KEPT_SHARE) -> list[Recipe]:
    """The recipes of the best share of the trials, at least one.

    A fast model is not dropped for a slow one that is slightly better before training (Schmucker et al. 2021,
    arXiv 2106.12639).
    """
    return [recipe for front in fronts(trials) for recipe in front][: math.ceil(share * len(trials))]


def fronts(trials: Sequence[FinishedTrial]) -> list[list[Recipe]]:
    """The recipes sorted into fronts by accuracy and cost (non-dominated sorting, Deb et al. 2002).

    No trial beats those of the first front, only trials of the first front beat those of the second, and so on. Each
    front starts with the most accurate.
    """
    remaining, found = sorted(trials, key=lambda one: (-one.result.accuracy, one.cost, one.recipe.name)), []
    while remaining:
        values = [(one.result.accuracy, -one.cost) for one in remaining]
        front = [one for one, value in zip(remaining, values) if not any(_dominates(other, value) for other in values)]
        found.append([one.recipe for one in front])
        remaining = [one for one in remaining if one not in front]
    return found


def rank(trials: Sequence[FinishedTrial], fast_enough: bool = False) -> Ranking:
    """Rank the trials, and pick the cheapest one that is not significantly worse than the most accurate one.

    If a latency limit makes all trials `fast_enough`, the most accurate one is picked. A trial is not significantly
    worse if neither its accuracy nor its log-loss is worse by more than one standard error of the paired differences
    (the one-standard-error rule of Breiman et al., CART, 1984, section 3.4.3, applied to pairs).

    Raises:
        DataError: fewer than two photos were held out in all trials.
    """
    common = sorted(set.intersection(*(set(one.result.answers) for one in trials)))
    if len(common) < 2:
        raise DataError(f"choosing between models needs 2 validation photos or more, found {len(common)}; add photos")
    answers = np.array([[one.result.answers[photo] for photo in common] for one in trials], np.float64)
    right, losses = answers[..., 0], -np.log(np.maximum(answers[..., 1], _LEAST_PROBABILITY))
    values = [
        (right[at].mean(), -losses[at].mean(), -one.cost, -one.result.model_bytes) for at, one in enumerate(trials)
    ]
    best = max(range(len(trials)), key=values.__getitem__)
    front = [at for at, value in enumerate(values) if not any(_dominates(other, value) for other in values)]
    candidates = [
        at
        for at in front
        if _within_standard_error(right[best] - right[at]) and _within_standard_error(losses[at] - losses[best])
    ]
    pick = best if fast_enough else min(candidates, key=lambda at: trials[at].cost)
    return Ranking(right, losses, frozenset(front), pick, best)


def explain(trials: Sequence[FinishedTrial], ranking: Ranking) -> str:
    """The reason for the pick, in one sentence."""
    pick, best = trials[ranking.pick], trials[ranking.best]
    photos = wording.count(ranking.right.shape[1], "validation photo")
    accuracy, highest = (wording.percent(ranking.accuracy(at)) for at in (ranking.pick, ranking.best))
    if pick is best:
        accuracies = ranking.right.mean(axis=1)
        rivals = [at for at, one in enumerate(trials) if one.cost < pick.cost and accuracies[at] == accuracies.max()]
        confidence = "; faster models of the same accuracy are less confident" if rivals else ""
        return f"{pick.recipe.name} is the most accurate model tried: right on {accuracy} of {photos}{confidence}."
    return (
        f"{pick.recipe.name} is right on {accuracy} of {photos}, within one standard error of the most accurate model, "
        f"{best.recipe.name} ({highest}), and is {best.cost / pick.cost:.1f} times faster."
    )


def standard_error(values: np.ndarray) -> float:
    """The standard error of the mean of at least two values (n,)."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _within_standard_error(differences: np.ndarray) -> bool:
    """Whether the mean of paired differences (n,) is at most one standard error above zero.

    A difference on a single photo always is.
    """
    return bool(differences.mean() <= standard_error(differences) * _ROUNDING)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` is at least as good in everything, and not equal."""
    return one != other and all(mine >= yours for mine, yours in zip(one, other))
