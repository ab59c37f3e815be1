"""Estimates the effect of a learning step on the known classes, on the bundle's guard set."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from edgetl.bundle import GUARD_EMBEDDINGS, GUARD_LABELS, Bundle
from edgetl.errors import IntegrityError
from edgetl.learners import Baseline, Statistics
from edgetl.runtime.inference.bundle_entries import read_npy
from edgetl.runtime.learning.live_statistics import LiveStatistics
from edgetl.runtime.learning.projection import Projection


class Rivalry(NamedTuple):
    """The number of guard pictures of `label` that were right before, and are now predicted as `rival`."""

    label: str
    rival: str
    pictures: int


@dataclass(frozen=True)
class Effect:
    """The effect of a step on the classes of the bundle, estimated on its guard set.

    The guard pictures are subtracted from the statistics, which is exact, before a layer predicts them. Classes that
    were taught on the device have no guard pictures; see `taught` for these.
    """

    before: Dict[str, float]
    """Accuracy before the step, 0 to 1, of each class with guard pictures that exists before and after; by its label
    after the step."""
    after: Dict[str, float]
    """The same after the step."""
    pictures: Dict[str, int]
    """The number of guard pictures behind each estimate."""
    rivalries: Tuple[Rivalry, ...]
    """The classes that now compete, the worst first."""
    taught: Dict[str, float] = field(default_factory=dict)
    """Accuracy after the step, 0 to 1, of classes without guard pictures that have two pictures or more. Each half of
    the pictures is predicted by a layer that has learned only the other half, so the estimate is cautious. Empty
    unless it was requested."""

    @property
    def cost_points(self) -> float:
        """Percentage points of accuracy lost, averaged over the classes; negative if accuracy is gained."""
        if not self.before:
            return 0.0
        return 100 * sum(self.before[label] - self.after[label] for label in self.before) / len(self.before)

    @property
    def losers(self) -> List[str]:
        """The classes that lose accuracy, the worst first."""
        lost = {label: self.before[label] - self.after[label] for label in self.before}
        return sorted((label for label in lost if lost[label] > 0), key=lambda label: -lost[label])

    def to_dict(self) -> Dict[str, Any]:
        """Return a dictionary for JSON."""
        return {
            "before": {label: round(value, 4) for label, value in self.before.items()},
            "after": {label: round(value, 4) for label, value in self.after.items()},
            "pictures": self.pictures,
            "cost_points": round(self.cost_points, 2),
            "rivalries": [rivalry._asdict() for rivalry in self.rivalries],
            "taught": {label: round(value, 4) for label, value in self.taught.items()},
        }

    @classmethod
    def from_dict(cls, document: Dict[str, Any]) -> Effect:
        """Make an effect from a dictionary in the form of `to_dict`, with its rounded values."""
        rivalries = tuple(Rivalry(**rivalry) for rivalry in document["rivalries"])
        return cls(document["before"], document["after"], document["pictures"], rivalries, document["taught"])


class Guard:
    """The guard set of a bundle, which may be missing. Not thread-safe.

    Raises:
        IntegrityError: the guard set is invalid.
    """

    def __init__(self, bundle: Bundle, live_statistics: LiveStatistics) -> None:
        self._live_statistics = live_statistics
        self._cache: Dict[Any, List[Optional[str]]] = {}
        self._baseline: Optional[Baseline] = None
        self.labels: List[str] = []
        if GUARD_EMBEDDINGS in bundle and GUARD_LABELS in bundle:
            raw, self.labels = _read(bundle)
            self._embeddings = live_statistics.to_fixed_point(raw)

    @property
    def exists(self) -> bool:
        """Whether the bundle has a guard set."""
        return bool(self.labels)

    def compare(self, before: Projection, after: Projection) -> Effect:
        """Estimate the effect of a step from what is in effect before and after it."""
        hits: Dict[str, List[Tuple[bool, bool]]] = {}
        lost: Counter[Tuple[str, str]] = Counter()
        for truth, old, new in zip(self.labels, self._predict(before), self._predict(after)):
            old_label, new_label = before.shipped.get(truth), after.shipped.get(truth)
            if old_label is None or new_label is None:
                continue
            hits.setdefault(new_label, []).append((old == old_label, new == new_label))
            if old == old_label and new != new_label:
                lost[new_label, str(new)] += 1
        return Effect(
            before={label: float(np.mean([was for was, _ in pairs])) for label, pairs in hits.items()},
            after={label: float(np.mean([now for _, now in pairs])) for label, pairs in hits.items()},
            pictures={label: len(pairs) for label, pairs in hits.items()},
            rivalries=tuple(Rivalry(*pair, count) for pair, count in lost.most_common()),
        )

    def taught_accuracy(self, projection: Projection) -> Dict[str, float]:
        """Estimate `Effect.taught` for what is in effect."""
        guarded = {projection.shipped.get(label) for label in self.labels}
        pictures_of: Dict[str, List[int]] = {}
        for picture, label in projection.pictures.items():
            if label not in guarded:
                pictures_of.setdefault(label, []).append(picture)
        halves = [[key for keys in pictures_of.values() if len(keys) > 1 for key in keys[half::2]] for half in (0, 1)]
        hits: Dict[str, List[bool]] = {}
        for half in filter(None, halves):
            truths, rows = [projection.pictures[key] for key in half], self._live_statistics.rows(half)
            rest = self._without_guard(projection)
            rest.remove(rows, truths)
            for truth, predicted in zip(truths, self._predict_by(rest, projection, rows, half)):
                hits.setdefault(truth, []).append(truth == predicted)
        return {label: float(np.mean(found)) for label, found in hits.items()}

    def baseline(self, as_shipped: Projection) -> Optional[Baseline]:
        """The usual drift signals of known pictures that were not learned from; None without a guard set."""
        if not self.exists:
            return None
        if self._baseline is None:
            rest = self._without_guard(as_shipped)
            self._baseline = self._live_statistics.baseline(rest, as_shipped, self._embeddings)
        return self._baseline

    def _predict(self, projection: Projection) -> List[Optional[str]]:
        """The predicted label of each guard picture, by a layer that has not seen them; the latest are cached."""
        key = (
            tuple(projection.shipped.items()),
            frozenset(projection.pictures.items()),
            tuple(projection.adapted.items()),
        )
        if key not in self._cache:
            predicted = self._predict_by(self._without_guard(projection), projection, self._embeddings)
            self._cache = dict([*list(self._cache.items())[-_CACHED:], (key, predicted)])
        return self._cache[key]

    def _without_guard(self, projection: Projection) -> Statistics:
        """A copy of the statistics in effect, without the guard pictures."""
        rest = self._live_statistics.statistics(projection).copy()
        names = self._live_statistics.names(projection)
        guard = Statistics(rest.dimension)
        guard.add(self._embeddings, [names.get(label, label) for label in self.labels])
        rest.subtract(guard)
        return rest

    def _predict_by(
        self, statistics: Statistics, projection: Projection, rows: np.ndarray, without: Sequence[int] = ()
    ) -> List[Optional[str]]:
        """The predicted labels of fixed-point embeddings (n, d), by a layer solved from these statistics.

        `without` are the pictures in effect that these statistics do not include. All None if no class is left.
        """
        if not set(projection.labels) & set(statistics.labels):
            return [None] * len(rows)
        layer = self._live_statistics.solve(statistics, projection, without)
        return [layer.labels[column] for column in layer.scores(rows).argmax(axis=1)]


_CACHED = 2


def _read(bundle: Bundle) -> Tuple[np.ndarray, List[str]]:
    """Read the raw embeddings (m, d) and their m labels.

    Raises:
        IntegrityError: they cannot be read, or do not match the bundle.
    """
    embedding = bundle.manifest.embedding
    try:
        raw = read_npy(GUARD_EMBEDDINGS, bundle.read(GUARD_EMBEDDINGS), embedding["dtype"])
        labels = json.loads(bundle.read(GUARD_LABELS))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{bundle.path}: its guard set cannot be read; build it again") from error
    fits = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not fits or raw.shape != (len(labels), embedding["size"]):
        raise IntegrityError(f"{bundle.path}: its guard set does not match its embeddings; build it again")
    return raw, labels
