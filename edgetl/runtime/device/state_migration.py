"""Moves what was taught to one bundle of a device to another: forward on an install, back on a rollback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Union

from edgetl.bundle import Bundle
from edgetl.errors import EdgetlError, StorageError
from edgetl.runtime.device.slots import Slot
from edgetl.runtime.learning import JOURNAL_FILE, Learner, read_contribution


@dataclass(frozen=True)
class Migration:
    """What moved from one bundle to another."""

    pictures: int = 0
    lost: int = 0
    """Pictures that stayed behind because the other bundle has another backbone and they have no thumbnail."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The label of every picture that was taught to the first bundle, by the picture's origin."""
    fault: str = ""
    """Why nothing could move; empty otherwise."""


def migrate(
    former: Optional[Slot], slot: Slot, done: Optional[Migration] = None, bundle: Optional[Bundle] = None
) -> Migration:
    """Teaches `slot` the pictures that `former` was taught and that it does not have; returns the total.

    A picture in both keeps its label in `slot`. `done` is an earlier migration between the two, which is returned if
    nothing was taught since. `bundle` is the slot's bundle where it is open already.
    Raises BundleError, LearningError, StorageError.
    """
    done = done or Migration()
    if former is None or former == slot:
        return done
    labels = _taught_labels(former)
    if labels == done.labels or labels.keys() <= _taught_labels(slot).keys():
        return done
    source: Union[Bundle, str] = bundle or str(slot.bundle)
    with Learner(source, slot.state) as learner:
        step = learner.merge(former.state)
        learner.publish()
    return Migration(done.pictures + len(step.pictures), step.not_carried, labels)


def migrate_back(left: Optional[Slot], slot: Optional[Slot]) -> Migration:
    """The same from a slot that was left to the one before it. Returns a fault instead of raising an EdgetlError.

    A rollback must not be blocked.
    """
    try:
        return migrate(left, slot) if slot else Migration()
    except EdgetlError as error:
        return Migration(fault=str(error))


def _taught_labels(slot: Slot) -> Mapping[str, str]:
    if not (slot.state / JOURNAL_FILE).is_file():
        return {}
    try:
        pictures = read_contribution(slot.state).pictures
    except StorageError:
        with Learner(str(slot.bundle), slot.state):  # sets a damaged journal aside and recovers what can be read
            pictures = read_contribution(slot.state).pictures if (slot.state / JOURNAL_FILE).is_file() else ()
    return {picture.origin: picture.label for picture in pictures}
