"""Hides how a learning step is judged on the bundle's guard set; the Learner calls it."""

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
from edgetl.runtime.learning.live_statistics import Knowledge
from edgetl.runtime.learning.projection import Contents


class Rivalry(NamedTuple):
    """A class that now takes guard pictures of another one, which were right before."""

    label: str
    rival: str
    pictures: int


@dataclass(frozen=True)
class Effect:
    """What a step does to the classes of the bundle, estimated on its guard set.

    The guard pictures are taken out of the statistics before a layer judges them, which is exact. Classes that
    were taught on the device have no guard pictures, so their own are judged, by halves: see `taught`.
    """

    before: Dict[str, float]
    """Accuracy, 0..1, of every class that has guard pictures and is known before and after, by its label now."""
    after: Dict[str, float]
    pictures: Dict[str, int]
    """How many guard pictures each estimate rests on."""
    rivalries: Tuple[Rivalry, ...]
    """Which classes now compete, the worst first."""
    taught: Dict[str, float] = field(default_factory=dict)
    """Accuracy after, 0..1, of classes without guard pictures and with two pictures or more: each half of these is
    judged by a layer that has learned the other half, so it is a cautious estimate. Empty unless it was asked for."""

    @property
    def cost_points(self) -> float:
        """Points of accuracy lost over all these classes, each counting the same; negative where some are won."""
        if not self.before:
            return 0.0
        return 100 * sum(self.before[label] - self.after[label] for label in self.before) / len(self.before)

    @property
    def losers(self) -> List[str]:
        """The classes that lose, the worst first."""
        lost = {label: self.before[label] - self.after[label] for label in self.before}
        return sorted((label for label in lost if lost[label] > 0), key=lambda label: -lost[label])

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return {
            "before": {label: round(value, 4) for label, value in self.before.items()},
            "after": {label: round(value, 4) for label, value in self.after.items()},
            "pictures": self.pictures,
            "cost_points": round(self.cost_points, 2),
            "rivalries": [rivalry._asdict() for rivalry in self.rivalries],
            "taught": {label: round(value, 4) for label, value in self.taught.items()},
        }

    @classmethod
    def from_dict(cls, told: Dict[str, Any]) -> Effect:
        """The inverse of `to_dict`, but for its rounding."""
        rivalries = tuple(Rivalry(**rivalry) for rivalry in told["rivalries"])
        return cls(told["before"], told["after"], told["pictures"], rivalries, told["taught"])


class Guard:
    """The guard set of a bundle, which may have been built without one. Not thread-safe."""

    def __init__(self, bundle: Bundle, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._known: Dict[Any, List[Optional[str]]] = {}
        self._usual: Optional[Baseline] = None
        self.labels: List[str] = []
        if GUARD_EMBEDDINGS in bundle and GUARD_LABELS in bundle:
            raw, self.labels = _read(bundle)
            self._grid = knowledge.grid(raw)

    @property
    def exists(self) -> bool:
        """Whether the bundle has a guard set."""
        return bool(self.labels)

    def compare(self, before: Contents, after: Contents) -> Effect:
        """What the step from one to the other does."""
        former, latter = self._predict(before), self._predict(after)
        hits: Dict[str, List[Tuple[bool, bool]]] = {}
        lost: Counter[Tuple[str, str]] = Counter()
        for truth, old, new in zip(self.labels, former, latter):
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

    def _predict(self, contents: Contents) -> List[Optional[str]]:
        """The label of every guard picture, by a layer that has not seen them."""
        key = (tuple(contents.shipped.items()), frozenset(contents.pictures.items()), tuple(contents.adapted.items()))
        if key not in self._known:
            found = self._solve_and_predict(contents)
            self._known = dict([*list(self._known.items())[-_REMEMBERED:], (key, found)])
        return self._known[key]

    def judge_taught(self, contents: Contents) -> Dict[str, float]:
        """The `taught` of an effect that ends in these contents."""
        guarded = {contents.shipped.get(label) for label in self.labels}
        of_class: Dict[str, List[int]] = {}
        for picture, label in contents.pictures.items():
            if label not in guarded:
                of_class.setdefault(label, []).append(picture)
        halves = [[key for keys in of_class.values() if len(keys) > 1 for key in keys[half::2]] for half in (0, 1)]
        hits: Dict[str, List[bool]] = {}
        for half in filter(None, halves):
            truths, grid = [contents.pictures[key] for key in half], self._knowledge.rows(half)
            rest = self._without_guard(contents)
            rest.remove(grid, truths)
            for truth, found in zip(truths, self._answers(rest, contents, grid, half)):
                hits.setdefault(truth, []).append(truth == found)
        return {label: float(np.mean(found)) for label, found in hits.items()}

    def usual(self, shipped: Contents) -> Optional[Baseline]:
        """How known pictures look that were not learned from, by what was shipped; None without a guard set."""
        if not self.exists:
            return None
        if self._usual is None:
            self._usual = self._knowledge.usual(self._without_guard(shipped), shipped, self._grid)
        return self._usual

    def _solve_and_predict(self, contents: Contents) -> List[Optional[str]]:
        return self._answers(self._without_guard(contents), contents, self._grid)

    def _without_guard(self, contents: Contents) -> Statistics:
        """A copy of the statistics of what is in effect, without the guard pictures."""
        rest = self._knowledge.statistics(contents).copy()
        names = self._knowledge.names(contents)
        own = Statistics(rest.dimension)
        own.add(self._grid, [names.get(label, label) for label in self.labels])
        rest.subtract(own)
        return rest

    def _answers(
        self, statistics: Statistics, contents: Contents, grid: np.ndarray, without: Sequence[int] = ()
    ) -> List[Optional[str]]:
        """What a layer solved from the statistics, which lack some pictures, says of embeddings (n, d) on the grid."""
        if not set(contents.labels) & set(statistics.labels):
            return [None] * len(grid)
        layer = self._knowledge.solve(statistics, contents, without)
        return [layer.labels[slot] for slot in layer.scores(grid).argmax(axis=1)]


_REMEMBERED = 2


def _read(bundle: Bundle) -> Tuple[np.ndarray, List[str]]:
    """The raw embeddings (m, d) and their labels. Raises IntegrityError where they do not fit the bundle."""
    embedding = bundle.manifest.embedding
    try:
        raw = read_npy(GUARD_EMBEDDINGS, bundle.read(GUARD_EMBEDDINGS), embedding["dtype"])
        labels = json.loads(bundle.read(GUARD_LABELS))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{bundle.path}: its guard set cannot be read; build it again") from error
    fits = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not fits or raw.shape != (len(labels), embedding["size"]):
        raise IntegrityError(f"{bundle.path}: its guard set is not of its embeddings; build it again")
    return raw, labels
