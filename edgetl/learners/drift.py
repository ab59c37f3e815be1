"""Hides how it is told whether pictures still look like those that were learned from; the Learner calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.embedding import GRID
from edgetl.learners.last_layer import LastLayer
from edgetl.learners.moments import Moments
from edgetl.learners.novelty import SHRINKAGE
from edgetl.learners.statistics import Statistics
from edgetl.learners.weighing import Weighing, with_points

LEAST_PICTURES = 20
STABLE, DRIFTING = "stable", "drifting"
CHANGED, UNKNOWN = "changed: teach or rebuild", "unknown: too few pictures yet"


@dataclass(frozen=True)
class Window:
    """What was classified of late: exact sums, without the pictures.

    Attributes:
        counts: pictures by the label that was predicted.
        sums: (d,) int64, the sum of their embeddings on the grid.
        novelty: the sum of their novelties.
        confidence: the sum of the probabilities of the predicted labels.
    """

    counts: Mapping[str, int]
    sums: NDArray[np.int64]
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
        signals: "novelty" and "confidence", the means over these pictures; "shift", how far the mean of their
            embeddings lies from what their labels would have it at, squared, in units of the squared distance at
            which a single picture usually lies from its class. Empty where the verdict is UNKNOWN.
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


@dataclass(frozen=True, eq=False)
class Usual:
    """How far known pictures that were not learned from lie off, by chance and by being other pictures.

    Attributes:
        shift: of all of them together.
        shift_spread: the standard deviation of a window's shift, times its number of pictures.
        novelty, confidence: means by predicted label; a label that is missing has the mean of all, under "".
        novelty_spread, confidence_spread: standard deviations of single pictures.
    """

    shift: float
    shift_spread: float
    novelty: Mapping[str, float]
    confidence: Mapping[str, float]
    novelty_spread: float
    confidence_spread: float

    @classmethod
    def of(
        cls, layer: LastLayer, rest: Statistics, parameters: Mapping[str, Any], rows: NDArray[np.int16]
    ) -> Usual:
        """Learn it from known embeddings (n, d) on the grid, and a layer and statistics that do not hold them.

        `parameters` are those of the layer's solver.
        """
        rows = rows[np.random.default_rng(0).permutation(len(rows))[:_MOST_ROWS]]
        probabilities = layer.probabilities(rows)
        labels = [layer.labels[slot] for slot in probabilities.argmax(axis=1)]
        novelty, confidence = layer.novelty(rows), probabilities.max(axis=1)
        residuals = Residuals(Moments.of(rest), rest.labels, rows / np.float64(GRID), parameters)
        products = residuals.products(labels)
        apart = products[~np.eye(len(rows), dtype=bool)]
        return cls(
            shift=max(residuals.shift(np.full(len(rows), 1 / len(rows)), labels), 0.0),
            shift_spread=float(np.sqrt(2 * (apart**2).mean())) if len(apart) else 0.0,
            novelty=_means_by_label(labels, novelty),
            confidence=_means_by_label(labels, confidence),
            novelty_spread=float(novelty.std()),
            confidence_spread=float(confidence.std()),
        )


def judge(
    window: Window,
    statistics: Statistics,
    parameters: Mapping[str, Any],
    usual: Optional[Usual] = None,
    weighing: Optional[Weighing] = None,
) -> Drift:
    """Hold a window against the statistics in effect, as its last layer's solver with these parameters sees them.

    The test on the mean is Hotelling's with the shrunk covariance of the last layer (Chen, Paul, Prentice and Wang,
    A Regularized Hotelling's T2 Test, JASA 106, 2011), of the mean embedding against the mixture of the class means
    by predicted label. Over enough pictures every trifle is significant, so a signal must also be large to count.
    Without `usual`, for want of a guard set, novelty is held against its calibration, and confidence not at all.
    """
    pictures, counts = window.pictures, window.counts
    if pictures < LEAST_PICTURES or not set(counts) <= set(statistics.labels):
        return Drift(UNKNOWN, pictures, {})
    moments = Moments.of(statistics) if weighing is None else weighing.moments(statistics)
    mean = window.sums / (pictures * np.float64(GRID))
    shift = Residuals(moments, statistics.labels, mean[None], parameters).shift_of_mean(counts)
    signals = {
        "shift": _shift_signal(shift, pictures, usual),
        "novelty": _novelty_signal(window.novelty / pictures, counts, usual),
    }
    if usual is not None:
        signals["confidence"] = _confidence_signal(window.confidence / pictures, counts, usual)
    verdict = (STABLE, DRIFTING, CHANGED)[max(signal.severity for signal in signals.values())]
    return Drift(verdict, pictures, signals)


class Residuals:
    """What is left of embeddings (n, d) of length 1 when the means of their classes are taken off."""

    def __init__(
        self, moments: Moments, labels: Sequence[str], rows: NDArray[Any], parameters: Mapping[str, Any]
    ) -> None:
        self._directions = with_points(moments, rows, parameters.get("shrinkage", SHRINKAGE))
        self._counts = moments.counts
        self._slots = {label: slot for slot, label in enumerate(labels)}
        self._rows = len(rows)

    def products(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """(n, n): the inner products of the residuals by the inverse covariance, over those of a single picture."""
        signs = np.zeros((self._rows, len(self._directions.counts)))
        signs[np.arange(self._rows), [self._slots[label] for label in labels]] = -1
        signs[:, len(self._counts) :] += np.eye(self._rows)
        return np.asarray(signs @ self._directions.products @ signs.T / self._directions.noise)

    def shift(self, shares: NDArray[np.float64], labels: Sequence[str]) -> float:
        """The squared shift of the mean of the rows, by shares (n,); what chance adds to it is taken off."""
        found = float(shares @ self.products(labels) @ shares)
        by_label = {label: float(shares[[other == label for other in labels]].sum()) for label in set(labels)}
        return found - float(shares @ shares) - self._chance_of_means(by_label)

    def shift_of_mean(self, counts: Mapping[str, int]) -> float:
        """The same for one row, the mean of embeddings that were predicted to be of these classes."""
        total = sum(counts.values())
        shares = {label: count / total for label, count in counts.items()}
        signs = np.zeros(len(self._directions.counts))
        signs[[self._slots[label] for label in shares]] = [-share for share in shares.values()]
        signs[-1] = 1
        found = float(signs @ self._directions.products @ signs / self._directions.noise)
        return found - 1 / total - self._chance_of_means(shares)

    def _chance_of_means(self, shares: Mapping[str, float]) -> float:
        return float(sum(share**2 / self._counts[self._slots[label]] for label, share in shares.items()))


_MOST_ROWS = 300
_SIGMAS = 3.0
# How large a signal must be, above what is usual, on top of being more than chance: benchmarks/drift.py. On TrashNet
# photos that pass the first limits lose about 9 points of accuracy, those that pass the second ones 25.
_SHIFT_DRIFTING, _SHIFT_CHANGED = 0.03, 0.15
_NOVELTY_DRIFTING, _NOVELTY_CHANGED = 0.1, 0.28
_CONFIDENCE_DRIFTING, _CONFIDENCE_CHANGED = 0.1, 0.25
_PRIOR_PICTURES = 5
"""A label's mean is pulled to that of all labels as if so many pictures lay there."""
_UNIFORM_MEAN, _UNIFORM_SPREAD = 0.5, 12**-0.5


def _shift_signal(value: float, pictures: int, usual: Optional[Usual]) -> Signal:
    expected, spread = (usual.shift, usual.shift_spread) if usual is not None else (0.0, 0.0)
    chance = _SIGMAS * spread / pictures
    return _signal(value, expected, max(_SHIFT_DRIFTING, chance), max(_SHIFT_CHANGED, chance))


def _novelty_signal(value: float, counts: Mapping[str, int], usual: Optional[Usual]) -> Signal:
    """Novelty is a share of known pictures, so over these it is even, from 0 to 1."""
    expected = _mixed(usual.novelty, counts) if usual is not None else _UNIFORM_MEAN
    spread = usual.novelty_spread if usual is not None else _UNIFORM_SPREAD
    chance = _SIGMAS * spread / sum(counts.values()) ** 0.5
    return _signal(value, expected, max(_NOVELTY_DRIFTING, chance), max(_NOVELTY_CHANGED, chance))


def _confidence_signal(value: float, counts: Mapping[str, int], usual: Usual) -> Signal:
    expected = _mixed(usual.confidence, counts)
    chance = _SIGMAS * usual.confidence_spread / sum(counts.values()) ** 0.5
    return _signal(value, expected, -max(_CONFIDENCE_DRIFTING, chance), -max(_CONFIDENCE_CHANGED, chance))


def _signal(value: float, expected: float, drifting: float, changed: float) -> Signal:
    return Signal(value, expected, expected + drifting, expected + changed)


def _means_by_label(labels: Sequence[str], values: NDArray[np.float32]) -> dict[str, float]:
    overall = float(values.mean())
    means = {"": overall}
    for label in set(labels):
        members = values[[other == label for other in labels]]
        means[label] = (float(members.sum()) + _PRIOR_PICTURES * overall) / (len(members) + _PRIOR_PICTURES)
    return means


def _mixed(means: Mapping[str, float], counts: Mapping[str, int]) -> float:
    return sum(means.get(label, means[""]) * count for label, count in counts.items()) / sum(counts.values())
