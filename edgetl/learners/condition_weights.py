"""Weighs shipped embeddings against taught ones where conditions have changed since shipping."""

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
class ConditionWeights:
    """How the solvers see classes that look different now than when they were shipped.

    The statistics themselves do not change. A class is either spanned or halved:

    - Spanned: the class holds under both conditions. The covariance that all classes share sees the difference
      between shipped and taught pictures as if as many had been taught as were shipped, so that this difference no
      longer separates classes. This is within-class covariance normalisation over conditions (Hatch, Kajarekar and
      Stolcke, Interspeech 2006).
    - Halved: the class mean moves towards the taught pictures; the old conditions are given up.

    Attributes:
        halvings: by class, how often the count of its shipped embeddings is halved; 0 for a class that is missing.
        spanned: the classes that span both conditions.
        taught_counts: by class, the number of taught embeddings.
        taught_sums: by class, the sum (d,) int64 of its taught fixed-point embeddings.
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
    ) -> ConditionWeights:
        """Weigh shipped embeddings against taught fixed-point embeddings (n, d) with n labels."""
        names = np.asarray(labels)
        sums = {label: rows[names == label].sum(axis=0, dtype=np.int64) for label in set(labels)}
        return cls(dict(halvings), frozenset(spanned), Counter(labels), sums)

    def moments(self, statistics: Statistics) -> Moments:
        """Compute the moments that the solvers see, from statistics of all shipped and taught embeddings.

        The scatter of a class around its mean is the scatter of the shipped embeddings around their mean, plus that
        of the taught ones around theirs, plus n m / (n + m) D D', where n and m are the counts of shipped and taught
        embeddings and D is the difference of the two means (Chan, Golub and LeVeque 1983). Only the last term
        changes: m is raised to n at least if the class is spanned, and n is multiplied by 0.5^halvings if it is halved.
        """
        moments = Moments.of(statistics)
        counts, means = moments.counts.copy(), moments.means.copy()
        differences, amounts = [], []
        for index, label in enumerate(statistics.labels):
            taught = float(self.taught_counts.get(label, 0))
            shipped = counts[index] - taught
            halvings, is_spanned = self.halvings.get(label, 0), label in self.spanned
            if not (taught and shipped and (halvings or is_spanned)):
                continue
            taught_mean = self.taught_sums[label] / (taught * GRID)
            shipped_mean = (means[index] * counts[index] - taught_mean * taught) / shipped
            effective = shipped * 0.5**halvings
            after = spanning_weight(shipped, taught) if is_spanned else scatter_weight(effective, taught)
            differences.append(taught_mean - shipped_mean)
            amounts.append(after - scatter_weight(shipped, taught))
            counts[index] = effective + taught
            means[index] = (shipped_mean * effective + taught_mean * taught) / counts[index]
        scatter = moments.scatter
        if differences:
            stacked = np.stack(differences)
            scatter = scatter + (stacked.T * np.array(amounts)) @ stacked
        return ReweightedMoments(counts, means, scatter, moments.dimension, moments.freedom)


def scatter_weight(shipped: Any, taught: Any) -> Any:
    """n m / (n + m): the weight of D D' in the scatter, for two means that differ by D and their counts n and m."""
    return shipped * taught / (shipped + taught)


def spanning_weight(shipped: Any, taught: Any) -> Any:
    """`scatter_weight` as if at least as many embeddings had been taught as were shipped."""
    return scatter_weight(shipped, np.maximum(shipped, taught))


def directions_with_points(moments: Moments, points: Array, shrinkage: Shrinkage) -> Directions:
    """Directions of the class means followed by those of single points (n, d), each a class of its own.

    The covariance is that of the moments alone.
    """
    counts = np.concatenate([moments.counts, np.ones(len(points))])
    means = np.concatenate([moments.means, points])
    return Directions.of(
        ReweightedMoments(counts, means, moments.scatter, moments.dimension, moments.freedom), shrinkage
    )


@dataclass(frozen=True)
class ReweightedMoments(Moments):
    """Moments whose counts are no longer the numbers of embeddings behind the scatter."""

    scatter_freedom: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the scatter."""
        return self.scatter_freedom
