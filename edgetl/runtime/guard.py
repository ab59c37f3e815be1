"""Hides how a learning step is judged on the bundle's guard set; the Learner calls it."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from edgetl.bundle import Bundle
from edgetl.errors import IntegrityError
from edgetl.learners import Statistics
from edgetl.runtime.contents import Contents
from edgetl.runtime.knowledge import Knowledge

EMBEDDINGS, LABELS = "guard/embeddings.npy", "guard/labels.json"


class Rivalry(NamedTuple):
    """A class that now takes guard pictures of another one, which were right before."""

    label: str
    rival: str
    pictures: int


@dataclass(frozen=True)
class Effect:
    """What a step does to the classes of the bundle, estimated on its guard set.

    The guard pictures are taken out of the statistics before a layer judges them, which is exact. Classes that
    were taught on the device have no guard pictures: nothing is estimated for them.
    """

    before: Dict[str, float]
    """Accuracy, 0..1, of every class that has guard pictures and is known before and after, by its label now."""
    after: Dict[str, float]
    pictures: Dict[str, int]
    """How many guard pictures each estimate rests on."""
    rivalries: Tuple[Rivalry, ...]
    """Which classes now compete, the worst first."""

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
        }


class Guard:
    """The guard set of a bundle, which may have been built without one. Not thread-safe."""

    def __init__(self, bundle: Bundle, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._known: Dict[Any, List[Optional[str]]] = {}
        self.labels: List[str] = []
        if EMBEDDINGS in bundle and LABELS in bundle:
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
        key = (tuple(contents.shipped.items()), frozenset(contents.pictures.items()))
        if key not in self._known:
            found = self._solve_and_predict(contents)
            self._known = dict([*list(self._known.items())[-_REMEMBERED:], (key, found)])
        return self._known[key]

    def _solve_and_predict(self, contents: Contents) -> List[Optional[str]]:
        rest = self._knowledge.statistics(contents).copy()
        names = self._knowledge.names(contents)
        own = Statistics(rest.dimension)
        own.add(self._grid, [names.get(label, label) for label in self.labels])
        rest.subtract(own)
        labels = [label for label in contents.labels if label in rest.labels]
        if not labels:
            return [None] * len(self.labels)
        layer = self._knowledge.solve(rest, labels)
        return [layer.labels[slot] for slot in layer.scores(self._grid).argmax(axis=1)]


_REMEMBERED = 2


def _read(bundle: Bundle) -> Tuple[np.ndarray, List[str]]:
    """The raw embeddings (m, d) and their labels. Raises IntegrityError where they do not fit the bundle."""
    embedding = bundle.manifest.embedding
    try:
        raw = np.lib.format.read_array(io.BytesIO(bundle.read(EMBEDDINGS)), allow_pickle=False)
        labels = json.loads(bundle.read(LABELS))
    except (ValueError, OSError, EOFError) as error:
        raise IntegrityError(f"{bundle.path}: its guard set cannot be read; build it again") from error
    fits = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not fits or raw.dtype != embedding["dtype"] or raw.shape != (len(labels), embedding["size"]):
        raise IntegrityError(f"{bundle.path}: its guard set is not of its embeddings; build it again")
    return raw, labels
