"""Detects whether classified pictures still look like those that were learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.condition_weights import ConditionWeights, directions_with_points
from edgetl.learners.fixed_point import GRID
from edgetl.learners.last_layer import LastLayer
from edgetl.learners.moments import Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.statistics import Statistics

MIN_PICTURES = 20
"""Fewer pictures than this give no verdict."""

STABLE, DRIFTING = "stable", "drifting"
CHANGED, UNKNOWN = "changed: teach or rebuild", "unknown: too few pictures yet"


@dataclass(frozen=True)
class Window:
    """Exact sums over recently classified pictures; the pictures themselves are not kept.

    Attributes:
        counts: pictures by predicted label.
        sums: by predicted label, (d,) int64, the sum of the fixed-point embeddings.
        novelty: the sum of the pictures' novelties.
        confidence: the sum of the probabilities of the predicted labels.
    """

    counts: Mapping[str, int]
    sums: Mapping[str, NDArray[np.int64]]
    novelty: float
    confidence: float

    @property
    def pictures(self) -> int:
        """The number of pictures."""
        return sum(self.counts.values())

    @property
    def is_sufficient(self) -> bool:
        """Whether there are enough pictures for a verdict."""
        return self.pictures >= MIN_PICTURES


@dataclass(frozen=True)
class Signal:
    """One figure of a window, its usual value, and the limits beyond which it indicates drift or a change."""

    value: float
    usual: float
    drifting: float
    changed: float

    @property
    def severity(self) -> int:
        """0 within the limits, 1 beyond the limit for drift, 2 beyond the limit for a change."""
        rising = self.changed > self.usual
        passed = [self.value > limit if rising else self.value < limit for limit in (self.drifting, self.changed)]
        return sum(passed)


@dataclass(frozen=True)
class Drift:
    """Whether recently classified pictures still look like those that were learned from.

    Attributes:
        verdict: STABLE, DRIFTING, CHANGED or UNKNOWN.
        pictures: the number of pictures behind the verdict: the newest ones classified since the latest learning
            step. A picture that hardly differs from the one before does not count.
        signals: empty if the verdict is UNKNOWN. "novelty" and "confidence" are means over the pictures. "shift" is
            how far the embeddings of all classes have moved in a common direction, as a squared distance in units of
            the expected squared distance of a single picture from its class mean; missing if all pictures have the
            same predicted label. "confidence" is missing without a guard set.
    """

    verdict: str
    pictures: int
    signals: Mapping[str, Signal]

    @classmethod
    def unknown(cls, pictures: int) -> Drift:
        """No verdict, after this number of pictures."""
        return cls(UNKNOWN, pictures, {})

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        rounded = {
            name: {key: round(value, 4) for key, value in asdict(signal).items()}
            for name, signal in self.signals.items()
        }
        return {"verdict": self.verdict, "pictures": self.pictures, "signals": rounded}


@dataclass(frozen=True)
class Level:
    """The usual values of a figure that every picture has: its novelty or its confidence.

    Attributes:
        means: by predicted label; "" is the mean over all labels, used for a label that is missing.
        spread: the standard deviation of single pictures.
        label_spread: the standard deviation of the labels' true means.
        pictures: the number of pictures that this was estimated from.
    """

    means: Mapping[str, float]
    spread: float
    label_spread: float
    pictures: float

    @classmethod
    def of(cls, labels: Sequence[str], values: NDArray[np.float32]) -> Level:
        """Estimate it from the values (n,) of pictures with these n predicted labels."""
        names, overall = np.asarray(labels), float(values.mean())
        groups = {label: values[names == label].astype(np.float64) for label in set(labels)}
        shrunk = {
            label: (float(group.sum()) + _PRIOR_PICTURES * overall) / (len(group) + _PRIOR_PICTURES)
            for label, group in groups.items()
        }
        return cls({**shrunk, "": overall}, float(values.std()), _spread_between(list(groups.values())), len(values))

    def mean(self, counts: Mapping[str, int]) -> float:
        """The usual mean of a window with these numbers of pictures per label."""
        total = sum(counts.values())
        return sum(self.means.get(label, self.means[""]) * count for label, count in counts.items()) / total

    def chance(self, counts: Mapping[str, int]) -> float:
        """How far the mean of such a window may be off by chance, if its labels are now seen in other places."""
        total = sum(counts.values())
        labels = sum(count**2 for count in counts.values()) / total**2
        variance = self.spread**2 * (1 / total + 1 / self.pictures) + self.label_spread**2 * labels
        return _SIGMAS * float(np.sqrt(variance))


@dataclass(frozen=True, eq=False)
class Baseline:
    """The usual signals of known pictures that were not learned from.

    Attributes:
        shift: that of all these pictures together.
        shift_spread: the standard deviation of a window's shift, times the square root of its number of pairs.
        novelty: the usual novelty.
        confidence: the usual confidence.
    """

    shift: float
    shift_spread: float
    novelty: Level
    confidence: Level

    @classmethod
    def of(cls, layer: LastLayer, rest: Statistics, parameters: Mapping[str, Any], rows: NDArray[np.int16]) -> Baseline:
        """Estimate it from known fixed-point embeddings.

        Args:
            layer: a last layer that was solved without these embeddings.
            rest: the statistics that it was solved from.
            parameters: the keyword parameters of its solver.
            rows: (n, d) int16, the known embeddings.
        """
        rows = rows[np.random.default_rng(0).permutation(len(rows))[:_MAX_ROWS]]
        probabilities = layer.probabilities(rows)
        labels = [layer.labels[column] for column in probabilities.argmax(axis=1)]
        residuals = Residuals(Moments.of(rest), rest.labels, rows / np.float64(GRID), parameters)
        products, pairs = residuals.products(labels), _pairs(labels, np.ones(len(labels)))
        return cls(
            shift=max(_mean(products, pairs), 0.0),
            shift_spread=float(np.sqrt(2 * _mean(products**2, pairs))),
            novelty=replace(Level.of(labels, layer.novelty(rows)), spread=_UNIFORM_SPREAD),
            confidence=Level.of(labels, probabilities.max(axis=1)),
        )


def assess_drift(
    window: Window,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    baseline: Optional[Baseline] = None,
    condition_weights: Optional[ConditionWeights] = None,
) -> Drift:
    """Compare a window with the statistics in effect, as the last layer's solver with these parameters sees them.

    The shift is a test on the mean. Pictures of one class come from few places, each with a look of its own, so they
    resemble each other more than they resemble what was learned from, even if nothing has changed. The test is
    therefore Hotelling's with the shrunk covariance of the last layer (Chen, Paul, Prentice and Wang, A Regularized
    Hotelling's T2 Test, JASA 106, 2011), of the embeddings less their class means, but over pairs of pictures of
    different classes only. Averaged over such pairs, what is peculiar to a class cancels out; what all classes have
    in common remains, such as light, lens and focus. For the same reason novelty and confidence may be off by as
    much as classes in the guard set usually are.

    Over many pictures every small difference is significant, so a signal must also be large to count.

    Args:
        window: the recently classified pictures.
        statistics: those in effect.
        parameters: the keyword parameters of the last layer's solver.
        baseline: from the guard set. Without it, novelty is compared with its calibration, and confidence is left out.
        condition_weights: in effect, if there is an adaptation.
    """
    pictures, counts = window.pictures, window.counts
    if not (window.is_sufficient and set(counts) <= set(statistics.labels)):
        return Drift.unknown(pictures)
    moments = Moments.of(statistics) if condition_weights is None else condition_weights.moments(statistics)
    signals = {"novelty": _novelty_signal(window.novelty / pictures, counts, baseline)}
    if len(counts) > 1:
        means = np.stack([window.sums[label] / (count * np.float64(GRID)) for label, count in counts.items()])
        residuals = Residuals(moments, statistics.labels, means, parameters)
        pairs = _pairs(list(counts), np.array(list(counts.values()), dtype=np.float64))
        signals["shift"] = _shift_signal(_mean(residuals.products(list(counts)), pairs), float(pairs.sum()), baseline)
    if baseline is not None:
        signals["confidence"] = _confidence_signal(window.confidence / pictures, counts, baseline.confidence)
    verdict = (STABLE, DRIFTING, CHANGED)[max(signal.severity for signal in signals.values())]
    return Drift(verdict, pictures, signals)


class Residuals:
    """Rows (n, d), which are embeddings of length 1 or means of such embeddings, less the means of their classes."""

    def __init__(
        self, moments: Moments, labels: Sequence[str], rows: NDArray[Any], parameters: Mapping[str, Any]
    ) -> None:
        self._directions = directions_with_points(moments, rows, parameters.get("shrinkage", SHRINKAGE))
        self._index_of = {label: index for index, label in enumerate(labels)}
        self._rows = len(rows)

    def products(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """(n, n) inner products of the residuals under the inverse covariance.

        They are divided by the expected squared length of a single picture's residual. `labels` are the rows' n labels.
        """
        signs = np.zeros((self._rows, len(self._directions.counts)))
        signs[np.arange(self._rows), [self._index_of[label] for label in labels]] = -1
        signs[:, len(self._index_of) :] += np.eye(self._rows)
        return np.asarray(signs @ self._directions.products @ signs.T / self._directions.noise)


_MAX_ROWS = 300
_SIGMAS = 3.0
# How far a signal must exceed its usual value, besides being significant: benchmarks/drift.py. On TrashNet, photos
# beyond the first limits lose about 8 points of accuracy, those beyond the second ones 25.
_SHIFT_DRIFTING, _SHIFT_CHANGED = 0.025, 0.15
_NOVELTY_DRIFTING, _NOVELTY_CHANGED = 0.1, 0.28
_NOVELTY_MAX_CHANCE = 0.35
"""An excess of novelty above this is not put down to chance, however uneven the guard set is."""
_CONFIDENCE_DRIFTING, _CONFIDENCE_CHANGED = 0.1, 0.25
_PRIOR_PICTURES = 5
"""A label's mean is shrunk towards the mean of all labels as if it had this many more pictures, all of them there."""
_UNIFORM_SPREAD = 12**-0.5
"""The standard deviation of the uniform distribution on 0 to 1.

Novelty is a share of known pictures, so it is uniform over them; the spread of a few pictures may be less.
"""
_UNIFORM = Level({"": 0.5}, _UNIFORM_SPREAD, 0.0, math.inf)


def _spread_between(groups: Sequence[NDArray[np.float64]]) -> float:
    """The standard deviation of the true means of groups: the variance of the observed means, less that by chance.

    Source: Hedges, A Random Effects Model for Effect Sizes, Psychological Bulletin 93, 1983.
    """
    groups = [group for group in groups if len(group) > 1]
    if len(groups) < 2:
        return 0.0
    observed = float(np.var([group.mean() for group in groups], ddof=1))
    by_chance = float(np.mean([group.var(ddof=1) / len(group) for group in groups]))
    return math.sqrt(max(observed - by_chance, 0.0))


def _pairs(labels: Sequence[str], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n): the number of pairs of pictures with different labels, between n groups with these counts (n,)."""
    names = np.asarray(labels)
    return np.asarray(np.outer(counts, counts) * (names[:, None] != names))


def _mean(products: NDArray[np.float64], pairs: NDArray[np.float64]) -> float:
    return float((products * pairs).sum() / max(pairs.sum(), 1.0))


def _shift_signal(value: float, pairs: float, baseline: Optional[Baseline]) -> Signal:
    usual, spread = (baseline.shift, baseline.shift_spread) if baseline is not None else (0.0, 0.0)
    chance = _SIGMAS * spread / pairs**0.5
    return _signal(value, usual, max(_SHIFT_DRIFTING, chance), max(_SHIFT_CHANGED, chance))


def _novelty_signal(value: float, counts: Mapping[str, int], baseline: Optional[Baseline]) -> Signal:
    level = baseline.novelty if baseline is not None else _UNIFORM
    chance = min(level.chance(counts), _NOVELTY_MAX_CHANCE)
    return _signal(value, level.mean(counts), max(_NOVELTY_DRIFTING, chance), max(_NOVELTY_CHANGED, chance))


def _confidence_signal(value: float, counts: Mapping[str, int], level: Level) -> Signal:
    chance = level.chance(counts)
    return _signal(value, level.mean(counts), -max(_CONFIDENCE_DRIFTING, chance), -max(_CONFIDENCE_CHANGED, chance))


def _signal(value: float, usual: float, drifting: float, changed: float) -> Signal:
    return Signal(value, usual, usual + drifting, usual + changed)
