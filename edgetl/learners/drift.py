"""Hides how it is told whether pictures still look like those that were learned from; the Learner calls it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.condition_weights import Weighing, with_points
from edgetl.learners.fixed_point import GRID
from edgetl.learners.last_layer import LastLayer
from edgetl.learners.moments import Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.statistics import Statistics

LEAST_PICTURES = 20
STABLE, DRIFTING = "stable", "drifting"
CHANGED, UNKNOWN = "changed: teach or rebuild", "unknown: too few pictures yet"


@dataclass(frozen=True)
class Window:
    """What was classified of late: exact sums, without the pictures.

    Attributes:
        counts: pictures by the label that was predicted.
        sums: by the same labels, (d,) int64, the sum of the embeddings on the grid.
        novelty: the sum of their novelties.
        confidence: the sum of the probabilities of the predicted labels.
    """

    counts: Mapping[str, int]
    sums: Mapping[str, NDArray[np.int64]]
    novelty: float
    confidence: float

    @property
    def pictures(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Signal:
    """One figure of a window, beside what is usual, and from where on it tells of drift and of a change."""

    value: float
    usual: float
    drifting: float
    changed: float

    @property
    def severity(self) -> int:
        """0 where all is as usual, 1 where the limit of drift is passed, 2 where that of a change is."""
        rising = self.changed > self.usual
        passed = [self.value > limit if rising else self.value < limit for limit in (self.drifting, self.changed)]
        return sum(passed)


@dataclass(frozen=True)
class Drift:
    """Whether what was classified of late still looks like what was learned from.

    Attributes:
        verdict: STABLE, DRIFTING, CHANGED or UNKNOWN.
        pictures: how many were classified since the latest learning step, the newest of them; what hardly differs
            from the picture before does not count.
        signals: "novelty" and "confidence", the means over these pictures; "shift", how far the embeddings of all
            classes have moved in common, squared, in units of the squared distance at which a single picture usually
            lies from its class: not where all have the same label. Empty where the verdict is UNKNOWN.
    """

    verdict: str
    pictures: int
    signals: Mapping[str, Signal]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        rounded = {
            name: {key: round(value, 4) for key, value in asdict(signal).items()}
            for name, signal in self.signals.items()
        }
        return {"verdict": self.verdict, "pictures": self.pictures, "signals": rounded}


@dataclass(frozen=True)
class Level:
    """What is usual of a figure that single pictures have.

    Attributes:
        means: by predicted label; a label that is missing has the mean of all, under "".
        spread: the standard deviation of single pictures.
        label_spread: that of the true means of labels.
        pictures: how many all this is known from.
    """

    means: Mapping[str, float]
    spread: float
    label_spread: float
    pictures: float

    @classmethod
    def of(cls, labels: Sequence[str], values: NDArray[np.float32]) -> Level:
        """Learn it from the figures (n,) of pictures that were predicted to have these labels."""
        names, overall = np.asarray(labels), float(values.mean())
        groups = {label: values[names == label].astype(np.float64) for label in set(labels)}
        pulled = {
            label: (float(group.sum()) + _PRIOR_PICTURES * overall) / (len(group) + _PRIOR_PICTURES)
            for label, group in groups.items()
        }
        return cls({**pulled, "": overall}, float(values.std()), _spread_between(list(groups.values())), len(values))

    def mean(self, counts: Mapping[str, int]) -> float:
        """Of a window with so many pictures of each label."""
        total = sum(counts.values())
        return sum(self.means.get(label, self.means[""]) * count for label, count in counts.items()) / total

    def chance(self, counts: Mapping[str, int]) -> float:
        """How far such a window may be off by chance, its labels in other places than before."""
        total = sum(counts.values())
        labels = sum(count**2 for count in counts.values()) / total**2
        variance = self.spread**2 * (1 / total + 1 / self.pictures) + self.label_spread**2 * labels
        return _SIGMAS * float(np.sqrt(variance))


@dataclass(frozen=True, eq=False)
class Usual:
    """How far known pictures that were not learned from lie off, by chance and by being other pictures.

    Attributes:
        shift: of all of them together.
        shift_spread: the standard deviation of a window's shift, times the root of its number of pairs of pictures.
        novelty, confidence: what is usual of either.
    """

    shift: float
    shift_spread: float
    novelty: Level
    confidence: Level

    @classmethod
    def of(cls, layer: LastLayer, rest: Statistics, parameters: Mapping[str, Any], rows: NDArray[np.int16]) -> Usual:
        """Learn it from known embeddings (n, d) on the grid, and a layer and statistics that do not hold them.

        `parameters` are those of the layer's solver.
        """
        rows = rows[np.random.default_rng(0).permutation(len(rows))[:_MOST_ROWS]]
        probabilities = layer.probabilities(rows)
        labels = [layer.labels[slot] for slot in probabilities.argmax(axis=1)]
        residuals = Residuals(Moments.of(rest), rest.labels, rows / np.float64(GRID), parameters)
        products, pairs = residuals.products(labels), _pairs(labels, np.ones(len(labels)))
        return cls(
            shift=max(_mean(products, pairs), 0.0),
            shift_spread=float(np.sqrt(2 * _mean(products**2, pairs))),
            novelty=replace(Level.of(labels, layer.novelty(rows)), spread=_EVEN_SPREAD),
            confidence=Level.of(labels, probabilities.max(axis=1)),
        )


def judge(
    window: Window,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    usual: Optional[Usual] = None,
    weighing: Optional[Weighing] = None,
) -> Drift:
    """Hold a window against the statistics in effect, as its last layer's solver with these parameters sees them.

    Pictures of one class come from few places, each with a look of its own, so they resemble each other more than
    they do what was learned from, even where nothing has changed. The test on the mean is therefore Hotelling's with
    the shrunk covariance of the last layer (Chen, Paul, Prentice and Wang, A Regularized Hotelling's T2 Test, JASA
    106, 2011), of the embeddings less their class means, but over pairs of pictures of different classes only: on
    average that is what all classes have in common, whatever each of them has of its own. Light, lens and focus are.
    Novelty and confidence may be off by as much as classes in the guard set usually are, for the same reason.

    Over enough pictures every trifle is significant, so a signal must also be large to count.
    Without `usual`, for want of a guard set, novelty is held against its calibration, and confidence not at all.
    """
    pictures, counts = window.pictures, window.counts
    if pictures < LEAST_PICTURES or not set(counts) <= set(statistics.labels):
        return Drift(UNKNOWN, pictures, {})
    moments = Moments.of(statistics) if weighing is None else weighing.moments(statistics)
    signals = {"novelty": _novelty_signal(window.novelty / pictures, counts, usual)}
    if len(counts) > 1:
        means = np.stack([window.sums[label] / (count * np.float64(GRID)) for label, count in counts.items()])
        residuals = Residuals(moments, statistics.labels, means, parameters)
        pairs = _pairs(list(counts), np.array(list(counts.values()), dtype=np.float64))
        signals["shift"] = _shift_signal(_mean(residuals.products(list(counts)), pairs), float(pairs.sum()), usual)
    if usual is not None:
        signals["confidence"] = _confidence_signal(window.confidence / pictures, counts, usual.confidence)
    verdict = (STABLE, DRIFTING, CHANGED)[max(signal.severity for signal in signals.values())]
    return Drift(verdict, pictures, signals)


class Residuals:
    """What is left of embeddings (n, d) of length 1, or of means of such, when the means of their classes are off."""

    def __init__(
        self, moments: Moments, labels: Sequence[str], rows: NDArray[Any], parameters: Mapping[str, Any]
    ) -> None:
        self._directions = with_points(moments, rows, parameters.get("shrinkage", SHRINKAGE))
        self._slots = {label: slot for slot, label in enumerate(labels)}
        self._rows = len(rows)

    def products(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """(n, n): the inner products of the residuals by the inverse covariance, over those of a single picture."""
        signs = np.zeros((self._rows, len(self._directions.counts)))
        signs[np.arange(self._rows), [self._slots[label] for label in labels]] = -1
        signs[:, len(self._slots) :] += np.eye(self._rows)
        return np.asarray(signs @ self._directions.products @ signs.T / self._directions.noise)


_MOST_ROWS = 300
_SIGMAS = 3.0
# How large a signal must be, above what is usual, on top of being more than chance: benchmarks/drift.py. On TrashNet
# photos that pass the first limits lose about 8 points of accuracy, those that pass the second ones 25.
_SHIFT_DRIFTING, _SHIFT_CHANGED = 0.025, 0.15
_NOVELTY_DRIFTING, _NOVELTY_CHANGED = 0.1, 0.28
_NOVELTY_UNHEARD = 0.35
"""So much above what is usual is not put down to chance, however uneven the guard set is."""
_CONFIDENCE_DRIFTING, _CONFIDENCE_CHANGED = 0.1, 0.25
_PRIOR_PICTURES = 5
"""A label's mean is pulled to that of all labels as if so many pictures lay there."""
_EVEN_SPREAD = 12**-0.5
"""Novelty is a share of known pictures, so over these it is even, from 0 to 1; few of them may show less."""
_EVEN = Level({"": 0.5}, _EVEN_SPREAD, 0.0, math.inf)


def _spread_between(groups: Sequence[NDArray[np.float64]]) -> float:
    """The standard deviation of the true means of groups: that of the means found, less what is chance in it.

    Source: Hedges, A Random Effects Model for Effect Sizes, Psychological Bulletin 93, 1983.
    """
    groups = [group for group in groups if len(group) > 1]
    if len(groups) < 2:
        return 0.0
    found = float(np.var([group.mean() for group in groups], ddof=1))
    by_chance = float(np.mean([group.var(ddof=1) / len(group) for group in groups]))
    return max(found - by_chance, 0.0) ** 0.5


def _pairs(labels: Sequence[str], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n): how many pairs of pictures of different labels there are between groups of so many pictures."""
    names = np.asarray(labels)
    return np.asarray(np.outer(counts, counts) * (names[:, None] != names))


def _mean(products: NDArray[np.float64], pairs: NDArray[np.float64]) -> float:
    return float((products * pairs).sum() / max(pairs.sum(), 1.0))


def _shift_signal(value: float, pairs: float, usual: Optional[Usual]) -> Signal:
    expected, spread = (usual.shift, usual.shift_spread) if usual is not None else (0.0, 0.0)
    chance = _SIGMAS * spread / pairs**0.5
    return _signal(value, expected, max(_SHIFT_DRIFTING, chance), max(_SHIFT_CHANGED, chance))


def _novelty_signal(value: float, counts: Mapping[str, int], usual: Optional[Usual]) -> Signal:
    level = usual.novelty if usual is not None else _EVEN
    chance = min(level.chance(counts), _NOVELTY_UNHEARD)
    return _signal(value, level.mean(counts), max(_NOVELTY_DRIFTING, chance), max(_NOVELTY_CHANGED, chance))


def _confidence_signal(value: float, counts: Mapping[str, int], level: Level) -> Signal:
    chance = level.chance(counts)
    return _signal(value, level.mean(counts), -max(_CONFIDENCE_DRIFTING, chance), -max(_CONFIDENCE_CHANGED, chance))


def _signal(value: float, expected: float, drifting: float, changed: float) -> Signal:
    return Signal(value, expected, expected + drifting, expected + changed)
