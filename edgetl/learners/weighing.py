"""Hides how what was shipped is made to weigh less than what was taught since; relearning and adaptation call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.embedding import GRID
from edgetl.learners.moments import Array, Directions, Moments, Shrinkage
from edgetl.learners.statistics import Statistics


@dataclass(frozen=True)
class Weighing:
    """How often the count of what was shipped of a class is halved, beside what was taught of it.

    The statistics themselves stay as they are, to the bit; only the class means, and how sure they count as, move
    over to what was taught. The covariance keeps what all pictures showed of how pictures of one class differ.

    Attributes:
        halvings: by class; a class that is missing here, or was not taught, keeps its full weight.
        taught_counts: by class, the embeddings that were taught.
        taught_sums: by class, the sum (d,) int64 of these embeddings on the grid.
    """

    halvings: Mapping[str, int]
    taught_counts: Mapping[str, int]
    taught_sums: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, halvings: Mapping[str, int], rows: NDArray[np.int16], labels: Sequence[str]) -> Weighing:
        """Weigh beside taught embeddings (n, d) on the grid, with their n labels."""
        names = np.asarray(labels)
        sums = {label: rows[names == label].sum(axis=0, dtype=np.int64) for label in set(labels)}
        return cls(dict(halvings), Counter(labels), sums)

    def moments(self, statistics: Statistics) -> Moments:
        """What the solvers get to see of the statistics, which hold what was shipped and what was taught.

        A class's scatter around its mean is that of the shipped embeddings around theirs, plus that of the taught
        ones around theirs, plus n m / (n + m) D D', with n and m their counts and D the difference of the means
        (Chan, Golub and LeVeque 1983). With n scaled by w, only the last part changes.
        """
        moments = Moments.of(statistics)
        counts, means, scatter = moments.counts.copy(), moments.means.copy(), moments.scatter
        for slot, label in enumerate(statistics.labels):
            taught = float(self.taught_counts.get(label, 0))
            shipped = counts[slot] - taught
            if not (self.halvings.get(label, 0) and taught and shipped):
                continue
            taught_mean = self.taught_sums[label] / (taught * GRID)
            shipped_mean = (means[slot] * counts[slot] - taught_mean * taught) / shipped
            weighed = shipped * 0.5 ** self.halvings[label]
            difference = taught_mean - shipped_mean
            lost = taught * (shipped / (shipped + taught) - weighed / (weighed + taught))
            scatter = scatter - np.outer(lost * difference, difference)
            counts[slot] = weighed + taught
            means[slot] = (shipped_mean * weighed + taught_mean * taught) / counts[slot]
        return Weighted(counts, means, scatter, moments.dimension, moments.freedom)


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
