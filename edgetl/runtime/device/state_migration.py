"""Hides how what was taught to one bundle of a device moves to another: forward at an install, back at a rollback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional

from edgetl.errors import EdgetlError
from edgetl.runtime.device.slots import Slot
from edgetl.runtime.learning import JOURNAL_FILE, Learner, read_contribution


@dataclass(frozen=True)
class Carried:
    """What was taught to one bundle and has moved to another."""

    pictures: int = 0
    lost: int = 0
    """Pictures that stayed behind: the other backbone is another, and they have no thumbnail."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of every picture that was taught to the one, by its origin."""
    fault: str = ""
    """Why nothing could move; else empty."""


def carry(former: Optional[Slot], slot: Slot, carried: Carried) -> Carried:
    """Teaches a slot what the former one was taught, but for what it has, or what was `carried` before.

    What both have keeps the label that it has in the slot. Raises BundleError, LearningError, StorageError.
    """
    if former is None or former == slot:
        return carried
    labels = _labels(former)
    if labels == carried.labels or labels.keys() <= _labels(slot).keys():
        return carried
    with Learner(slot.bundle, slot.state) as learner:
        step = learner.merge(former.state)
        learner.publish()
    return Carried(carried.pictures + len(step.pictures), step.not_carried, labels)


def carry_back(left: Optional[Slot], slot: Optional[Slot]) -> Carried:
    """The same from a slot that was left to the one before it; a fault is told, for nothing may hinder going back."""
    try:
        return carry(left, slot, Carried()) if slot else Carried()
    except EdgetlError as error:
        return Carried(fault=str(error))


def _labels(slot: Slot) -> Mapping[str, str]:
    if not (slot.state / JOURNAL_FILE).is_file():
        return {}
    return {picture.origin: picture.label for picture in read_contribution(slot.state).pictures}
