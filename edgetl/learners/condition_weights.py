"""Hides how what was shipped is held against what was taught since; relearning and adaptation call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.fixed_point import GRID
from edgetl.learners.moments import Array, Directions, Moments, Shrinkage
from edgetl.learners.statistics import Statistics


@dataclass(frozen=True)
class Weighing:
    """How the solvers see classes that look otherwise now than when they were shipped.

    The statistics themselves stay as they are, to the bit. A class is either spanned or halved:

    - Spanned, it holds under both conditions: the covariance that all classes share sees the difference between what
      was shipped and what was taught as if as many had been taught, so that it no longer tells classes apart. That
      is within-class covariance normalisation over conditions (Hatch, Kajarekar and Stolcke, Interspeech 2006).
    - Halved, its mean, and how sure that counts as, move over to what was taught; the old conditions are given up.

    Attributes:
        halvings: by class, how often the count of what was shipped is halved; 0 for one that is missing here.
        spanned: the classes that span both conditions.
        taught_counts: by class, the embeddings that were taught.
        taught_sums: by class, the sum (d,) int64 of these embeddings on the grid.
    """

    halvings: Mapping[str, int]
    spanned: Collection[str]
    taught_counts: Mapping[str, int]
    taught_sums: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int16],
        labels: Sequence[str],
        halvings: Mapping[str, int],
        spanned: Collection[str] = (),
    ) -> Weighing:
        """Weigh what was shipped beside taught embeddings (n, d) on the grid, with their n labels."""
        names = np.asarray(labels)
        sums = {label: rows[names == label].sum(axis=0, dtype=np.int64) for label in set(labels)}
        return cls(dict(halvings), frozenset(spanned), Counter(labels), sums)

    def moments(self, statistics: Statistics) -> Moments:
        """What the solvers get to see of the statistics, which hold what was shipped and what was taught.

        A class's scatter around its mean is that of the shipped embeddings around theirs, plus that of the taught
        ones around theirs, plus n m / (n + m) D D', with n and m their counts and D the difference of the means
        (Chan, Golub and LeVeque 1983). Only the last part changes: m becomes n at least in a class that is spanned,
        n is scaled by w in one that is halved.
        """
        moments = Moments.of(statistics)
        counts, means = moments.counts.copy(), moments.means.copy()
        differences, amounts = [], []
        for slot, label in enumerate(statistics.labels):
            taught = float(self.taught_counts.get(label, 0))
            shipped = counts[slot] - taught
            halvings, is_spanned = self.halvings.get(label, 0), label in self.spanned
            if not (taught and shipped and (halvings or is_spanned)):
                continue
            taught_mean = self.taught_sums[label] / (taught * GRID)
            shipped_mean = (means[slot] * counts[slot] - taught_mean * taught) / shipped
            weighed = shipped * 0.5**halvings
            after = spanning(shipped, taught) if is_spanned else between(weighed, taught)
            differences.append(taught_mean - shipped_mean)
            amounts.append(after - between(shipped, taught))
            counts[slot] = weighed + taught
            means[slot] = (shipped_mean * weighed + taught_mean * taught) / counts[slot]
        scatter = moments.scatter
        if differences:
            stacked = np.stack(differences)
            scatter = scatter + (stacked.T * np.array(amounts)) @ stacked
        return Weighted(counts, means, scatter, moments.dimension, moments.freedom)


def between(shipped: Any, taught: Any) -> Any:
    """What the square of the difference of two means counts in the scatter around their common one, by their counts."""
    return shipped * taught / (shipped + taught)


def spanning(shipped: Any, taught: Any) -> Any:
    """The same where at least as many count as taught as were shipped."""
    return between(shipped, np.maximum(shipped, taught))


def with_points(moments: Moments, points: Array, shrinkage: Shrinkage) -> Directions:
    """Directions of the class means followed by those of single points (n, d), which count as classes of their own.

    The covariance is that of the moments alone.
    """
    counts = np.concatenate([moments.counts, np.ones(len(points))])
    means = np.concatenate([moments.means, points])
    return Directions.of(Weighted(counts, means, moments.scatter, moments.dimension, moments.freedom), shrinkage)


@dataclass(frozen=True)
class Weighted(Moments):
    """Moments whose counts no longer say how many embeddings the scatter comes from."""

    scatter_freedom: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the scatter."""
        return self.scatter_freedom
