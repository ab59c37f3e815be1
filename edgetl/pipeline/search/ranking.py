"""Hides how candidates are ranked, promoted and picked; the search calls it.

Nothing here looks at a test photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from edgetl.errors import DataError
from edgetl.evaluation.renderers import wording
from edgetl.pipeline.budget import Excess
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.trial import Outcome

KEPT_SHARE = 1 / 3
"""Successive halving keeps so many of each round (Jamieson and Talwalkar 2016, arXiv 1502.07943; the share as in
Li et al. 2018, arXiv 1603.06560)."""

_LEAST_PROBABILITY = 1e-6
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Tried:
    """A recipe with its outcome and what it costs on the board: milliseconds, or MACs where no latency is known.

    `excess` is what it is over the budget by, None where it keeps to it.
    """

    recipe: Recipe
    outcome: Outcome
    cost: float
    excess: Optional[Excess] = None


class Verdict(NamedTuple):
    """What all trials are worth on the photos that judged every one of them.

    `right` (trials, n) are the right answers and `losses` (trials, n) the log-losses, in nats; `front` are the
    positions of those trials that no other beats in accuracy, log-loss, cost and size at once; `pick` and `best`
    positions too.
    """

    right: np.ndarray
    losses: np.ndarray
    front: frozenset[int]
    pick: int
    best: int

    def accuracy(self, position: int) -> float:
        """The share of right answers of one trial."""
        return float(self.right[position].mean())

    def log_loss(self, position: int) -> float:
        """The mean log-loss of one trial, in nats."""
        return float(self.losses[position].mean())


def promote(tried: Sequence[Tried], share: float = KEPT_SHARE) -> list[Recipe]:
    """The best share of the trials, at least one: a fast candidate is not dropped for a slow one that is a little
    better before training (Schmucker et al. 2021, arXiv 2106.12639)."""
    return [recipe for front in fronts(tried) for recipe in front][: math.ceil(share * len(tried))]


def fronts(tried: Sequence[Tried]) -> list[list[Recipe]]:
    """First those that no other beats in accuracy and cost, the most accurate of them first, then those that only
    the first ones beat, and so on (non-dominated sorting, Deb et al. 2002)."""
    left, found = sorted(tried, key=lambda one: (-one.outcome.accuracy, one.cost, one.recipe.name)), []
    while left:
        values = [(one.outcome.accuracy, -one.cost) for one in left]
        front = [one for one, value in zip(left, values) if not any(_dominates(other, value) for other in values)]
        found.append([one.recipe for one in front])
        left = [one for one in left if one not in front]
    return found


def decide(tried: Sequence[Tried], fast_enough: bool = False) -> Verdict:
    """The cheapest trial that the photos cannot tell from the most accurate one.

    Where a limit has said that all are `fast_enough`, the most accurate is picked: to be faster is worth nothing then.
    Photos cannot tell two apart where neither right answers nor log-losses differ by more than a standard error of the
    paired differences (the rule of Breiman et al., CART, 1984, section 3.4.3, on pairs).

    Raises:
        DataError: fewer than two photos judged all trials.
    """
    common = sorted(set.intersection(*(set(one.outcome.answers) for one in tried)))
    if len(common) < 2:
        raise DataError(f"{wording.count(len(common), 'validation photo')} cannot choose between models; add photos")
    answers = np.array([[one.outcome.answers[photo] for photo in common] for one in tried], np.float64)
    right, losses = answers[..., 0], -np.log(np.maximum(answers[..., 1], _LEAST_PROBABILITY))
    values = [
        (right[at].mean(), -losses[at].mean(), -one.cost, -one.outcome.model_bytes) for at, one in enumerate(tried)
    ]
    best = max(range(len(tried)), key=values.__getitem__)
    front = [at for at, value in enumerate(values) if not any(_dominates(other, value) for other in values)]
    alike = [at for at in front if _on_a_par(right[best] - right[at]) and _on_a_par(losses[at] - losses[best])]
    pick = best if fast_enough else min(alike, key=lambda at: tried[at].cost)
    return Verdict(right, losses, frozenset(front), pick, best)


def explain(tried: Sequence[Tried], verdict: Verdict) -> str:
    """Why the pick is the pick, in a sentence."""
    pick, best = tried[verdict.pick], tried[verdict.best]
    photos = wording.count(verdict.right.shape[1], "validation photo")
    accuracy, highest = (wording.percent(verdict.accuracy(at)) for at in (verdict.pick, verdict.best))
    if pick is best:
        accuracies = verdict.right.mean(axis=1)
        rivals = [at for at, one in enumerate(tried) if one.cost < pick.cost and accuracies[at] == accuracies.max()]
        surer = "; what is faster and as often right is less sure of it" if rivals else ""
        return f"{pick.recipe.name} is the most accurate of all that were tried: {accuracy} of {photos}{surer}."
    return (
        f"{pick.recipe.name} is right on {accuracy} of {photos}, within a standard error of the most accurate, "
        f"{best.recipe.name} ({highest}), and {best.cost / pick.cost:.1f} times faster."
    )


def standard_error(values: np.ndarray) -> float:
    """Of the mean of values (n,), two or more."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _on_a_par(differences: np.ndarray) -> bool:
    """Whether the mean of paired differences (n,) is at most one standard error above zero; one photo's always is."""
    return bool(differences.mean() <= standard_error(differences) * _ROUNDING)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """At least as good in everything, and not the same."""
    return one != other and all(mine >= yours for mine, yours in zip(one, other))
