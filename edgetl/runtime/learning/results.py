"""Hides how steps, rows of the journal and states are told to people and programs; the Learner gives them out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from edgetl.learners import Adaptation, Drift
from edgetl.runtime.learning.guard import Effect
from edgetl.runtime.learning.journal import Note
from edgetl.runtime.learning.projection import PROPOSE, TEACH, Contents, Row


@dataclass(frozen=True)
class Step:
    """What one operation did. It is on the disk when you hold this; `id` is 0 where nothing was recorded."""

    id: int
    kind: str
    label: Optional[str]
    pictures: Tuple[int, ...]
    """The ids of the pictures it is about; `correct` and `forget` take these."""
    subject: Optional[int] = None
    """Of an undo: the step that it takes back."""
    accepted: bool = True
    """False where the guard refused it: nothing has changed, but pictures to teach are kept and wait."""
    effect: Optional[Effect] = None
    """What it does to the known classes; only where a guard was set. `Learner.effect` gives it for any step."""
    not_carried: int = 0
    """Of a merge: pictures of another backbone that have no thumbnail to learn from again."""
    adaptation: Optional[Adaptation] = None
    """Of an adapt: what leave-one-out chose; where nothing helps, the step has no id, for nothing was recorded."""

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "pictures": list(self.pictures), "effect": self.effect and self.effect.to_dict()}


@dataclass(frozen=True)
class Entry:
    """One row of the journal, for people."""

    id: int
    step: int
    kind: str
    label: Optional[str]
    subject: Optional[int]
    former: Optional[str]
    time: str
    """By the device's clock, in UTC; the order is that of the ids, whatever the clock does."""
    source: Optional[str]
    state: str
    """"in effect", "undone", "pending" (the guard refused it), or "forgotten"."""
    now: Optional[str]
    """The label that a picture has now, after corrections and renames."""
    has_thumbnail: bool

    @classmethod
    def of(cls, row: Row, contents: Contents, notes: Mapping[int, Note]) -> Entry:
        """What became of a row, by what is in effect now."""
        note = notes[row.id]
        return cls(
            id=row.id,
            step=row.step,
            kind=row.kind,
            label=row.label,
            subject=row.subject,
            former=row.former,
            time=note.time,
            source=note.source,
            state=_state_of(row, contents),
            now=contents.label_of(row.id),
            has_thumbnail=note.has_thumbnail,
        )

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Status:
    """Where a state stands."""

    bundle: str
    state: str
    labels: Tuple[str, ...]
    pictures: Dict[str, Dict[str, int]]
    """By label: how many were "shipped" and "taught"."""
    pending: int
    forgotten_classes: Tuple[str, ...]
    steps: int
    size_bytes: int
    writable: bool
    halvings: Dict[str, int]
    """By label: how often an adaptation halves the count of what was shipped, where it does."""
    spanned: Tuple[str, ...]
    """The labels of those classes that an adaptation lets hold under old and new conditions alike."""
    drift: Drift

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        listed = {name: list(getattr(self, name)) for name in ("labels", "forgotten_classes", "spanned")}
        return {**vars(self), **listed, "drift": self.drift.to_dict()}


def _state_of(row: Row, contents: Contents) -> str:
    if row.step in contents.undone:
        return "undone"
    if row.kind not in (TEACH, PROPOSE):
        return "in effect"
    if row.id in contents.pending:
        return "pending"
    return "in effect" if contents.label_of(row.id) is not None else "forgotten"
