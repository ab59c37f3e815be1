"""The decision of the accuracy gate: how much accuracy the final model may lose against float, and the repairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from edgetl.evaluation.metrics import PairedDifference
from edgetl.evaluation.scoring import ImageResult, compare
from edgetl.evaluation.values import Figure


@dataclass(frozen=True)
class Repair:
    """One attempt to recover the accuracy that quantization costs.

    `before` and `after` are the accuracies around it, `difference` compares float with the model after it. `kept`
    says whether the shipped model contains it; `note` what was done, or why it could not be done.
    """

    name: str
    before: Figure
    after: Optional[Figure] = None
    difference: Optional[PairedDifference] = None
    seconds: Optional[float] = None
    kept: bool = False
    note: str = ""


@dataclass(frozen=True)
class GuiltyLayer:
    """A layer with a large quantization error: `sqnr_db` is the signal-to-noise ratio of its output, in decibels."""

    name: str
    operator: str
    sqnr_db: float


@dataclass(frozen=True)
class Gate:
    """Whether the final model is as good as its float twin, on the same photos.

    `max_drop` and `allowed` are in points of accuracy. `first` compares float with the model before any repair,
    `final` with the one that ships. `passed` says whether the final drop is within `allowed`, and `proven` whether
    even the lower end of its interval is within `max_drop`. `guilty` are the layers with the largest error before
    any repair.
    """

    max_drop: float
    allowed: float
    passed: bool
    proven: bool
    float_accuracy: Figure
    first_accuracy: Figure
    final_accuracy: Figure
    first: PairedDifference
    final: PairedDifference
    repairs: tuple[Repair, ...]
    guilty: tuple[GuiltyLayer, ...]
    how: str

    def summary(self) -> dict[str, Any]:
        """What `edgetl build --json` prints: points of accuracy, and the repairs that were kept."""
        return {
            "passed": self.passed,
            "proven": self.proven,
            "max_drop": self.max_drop,
            "points_before": self.first.points,
            "points": self.final.points,
            "points_interval": [self.final.low, self.final.high],
            "n": self.final.n,
            "repairs": [repair.name for repair in self.repairs if repair.kept],
            "guilty": [layer.name for layer in self.guilty],
        }

    def without_seconds(self) -> Gate:
        """The gate without durations, so that the same build gives the same proof."""
        return replace(self, repairs=tuple(replace(repair, seconds=None) for repair in self.repairs))


@dataclass(frozen=True)
class Judgement:
    """A model compared with its float twin on the same photos."""

    float_accuracy: Figure
    accuracy: Figure
    difference: PairedDifference
    how: str

    def passes(self, max_drop: float) -> bool:
        """Whether the measured drop is within what is allowed.

        The drop itself decides, not an end of its interval. With a hundred photos, three may flip by chance: the
        lower end would reject almost every model, and the upper end would accept almost every one.
        """
        return -self.difference.points <= allowed_drop(max_drop, self.difference.n) + 1e-9

    def is_proven(self, max_drop: float) -> bool:
        """Whether the drop is within `max_drop` at 95 % confidence, which takes many photos."""
        return -self.difference.low <= max_drop


def allowed_drop(max_drop: float, n: int) -> float:
    """Points of accuracy that may be lost on n photos: `max_drop`, but at least one photo unless `max_drop` is 0.

    One photo is the smallest drop that n photos can show, and a single mistake is no evidence of a drop.
    """
    return max(max_drop, 100.0 / n) if max_drop > 0 else 0.0


def judge(reference: Sequence[ImageResult], predictions: Sequence[ImageResult], quantize: str, how: str) -> Judgement:
    """Compare the predictions of a model with those of its float twin; DataError if they have no photo in common."""
    compared = compare(reference, predictions, ("float32", quantize), how)
    return Judgement(compared.first_accuracy, compared.second_accuracy, compared.difference, compared.how)
