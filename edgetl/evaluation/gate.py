"""What an accuracy gate decided and why: how much the final model may lose against float, and what was repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from edgetl.evaluation.metrics import PairedDifference
from edgetl.evaluation.scoring import ImageResult, compare
from edgetl.evaluation.values import Figure


@dataclass(frozen=True)
class Repair:
    """One attempt to win back what quantization costs: accuracies before and after it, and float to after.

    `kept` says whether what ships contains it; `note` what was done in particular, or why it could not be done.
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
    """A layer that loses much of the signal: `sqnr_db` is what its output has left, in decibels."""

    name: str
    operator: str
    sqnr_db: float


@dataclass(frozen=True)
class Gate:
    """Whether the final model is as good as its float twin, on the same photos.

    `max_drop` and `allowed` are in points of accuracy. `first` is float against the model as it was, `final`
    against the one that ships; `passed` whether that is within `allowed`, and `proven` whether even the lower end of
    its interval is. `guilty` are the layers that lost most before any repair.
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
        """What is the same however long the repairs took."""
        return replace(self, repairs=tuple(replace(repair, seconds=None) for repair in self.repairs))


@dataclass(frozen=True)
class Judgement:
    """A model against its float twin on the same photos."""

    float_accuracy: Figure
    accuracy: Figure
    difference: PairedDifference
    how: str

    def passes(self, max_drop: float) -> bool:
        """Whether the drop that was measured is within what is allowed.

        The drop itself decides, not an end of its interval: a hundred photos that lose or gain three by chance could
        never prove that a drop is below one point, and could never refute it either, so one end would refuse nearly
        every model and the other let nearly every one pass.
        """
        return -self.difference.points <= allowed_drop(max_drop, self.difference.n) + 1e-9

    def is_proven(self, max_drop: float) -> bool:
        """Whether the drop is within `max_drop` at 95 percent confidence, which takes many photos."""
        return -self.difference.low <= max_drop


def allowed_drop(max_drop: float, n: int) -> float:
    """Points that n photos may lose: `max_drop`, and where that is more than nothing at least one photo.

    One photo is the smallest drop that n photos can show, and one that is mistaken shows nothing.
    """
    return max(max_drop, 100.0 / n) if max_drop > 0 else 0.0


def judge(reference: Sequence[ImageResult], answers: Sequence[ImageResult], quantize: str, how: str) -> Judgement:
    """The answers of a model against those of its float twin; DataError where they have no photo in common."""
    compared = compare(reference, answers, ("float32", quantize), how)
    return Judgement(compared.first_accuracy, compared.second_accuracy, compared.difference, compared.how)
