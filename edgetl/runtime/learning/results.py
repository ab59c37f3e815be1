"""What a Learner returns: the result of a step, an entry of the history, and the status of a state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from edgetl.learners import Adaptation, Drift
from edgetl.runtime.learning.guard import Effect
from edgetl.runtime.learning.journal import Draft, Note
from edgetl.runtime.learning.projection import ACCEPT, CORRECT, FORGET, PROPOSE, TEACH, UNDO, Projection, Row


@dataclass(frozen=True)
class Step:
    """The result of one learning step. When a step is returned, its rows are on the disk."""

    id: int
    """0 if nothing was recorded."""
    kind: str
    """The kind of its first row, e.g. "teach" or "undo"."""
    label: Optional[str]
    pictures: Tuple[int, ...]
    """The ids of the pictures that it concerns; `correct` and `forget` take these."""
    subject: Optional[int] = None
    """Of an undo: the id of the step that it reverses."""
    accepted: bool = True
    """False if the guard refused the step. Then nothing has changed, except that pictures to teach are pending."""
    effect: Optional[Effect] = None
    """The effect on the known classes; only if a guard was set. `Learner.effect` estimates it for any step."""
    not_carried: int = 0
    """Of a merge: pictures of another backbone that were left out, because they have no thumbnail to embed again."""
    adaptation: Optional[Adaptation] = None
    """Of an adapt: what leave-one-out chose. If nothing helps, nothing is recorded and the id is 0."""

    @classmethod
    def of(cls, drafts: Sequence[Draft], ids: Sequence[int]) -> Step:
        """Make the result of the step that consists of these drafts; the ids are 0 if they were not recorded."""
        first = drafts[0]
        pictures = tuple(picture for picture in map(_picture_of, drafts, ids) if picture)
        return cls(ids[0], first.kind, first.label, pictures, first.subject if first.kind == UNDO else None)

    def to_dict(self) -> Dict[str, Any]:
        """Return a dictionary for JSON."""
        return {**asdict(self), "pictures": list(self.pictures), "effect": self.effect and self.effect.to_dict()}


@dataclass(frozen=True)
class HistoryEntry:
    """One row of the journal, and what became of it."""

    id: int
    step: int
    kind: str
    label: Optional[str]
    subject: Optional[int]
    former: Optional[str]
    time: str
    """ISO 8601, UTC, by the device's clock. The ids, not the times, give the order."""
    source: Optional[str]
    state: str
    """"in effect", "undone", "pending" (refused by the guard), or "forgotten"."""
    now: Optional[str]
    """The present label of a picture, after corrections and renames."""
    has_thumbnail: bool

    @classmethod
    def of(cls, row: Row, projection: Projection, notes: Mapping[int, Note]) -> HistoryEntry:
        """Describe a row of the journal, given what is in effect now and the notes by row id."""
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
            state=_state_of(row, projection),
            now=projection.label_of(row.id),
            has_thumbnail=note.has_thumbnail,
        )

    def to_dict(self) -> Dict[str, Any]:
        """Return a dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Status:
    """The present status of a state."""

    bundle: str
    """The bundle's name."""
    state: str
    """The folder of the state."""
    labels: Tuple[str, ...]
    pictures: Dict[str, Dict[str, int]]
    """By label: the numbers of "shipped" and "taught" pictures."""
    pending: int
    """Pictures that the guard refused."""
    forgotten_classes: Tuple[str, ...]
    steps: int
    size_bytes: int
    writable: bool
    halvings: Dict[str, int]
    """By label: how often an adaptation halves the count of the shipped pictures; only labels where it does."""
    spanned: Tuple[str, ...]
    """The labels of the classes that, by an adaptation, hold under old and new conditions alike."""
    drift: Drift
    set_aside: Tuple[str, ...] = ()
    """One line for each damaged journal that was set aside."""

    def to_dict(self) -> Dict[str, Any]:
        """Return a dictionary for JSON."""
        lists = {name: list(getattr(self, name)) for name in ("labels", "forgotten_classes", "spanned", "set_aside")}
        return {**vars(self), **lists, "drift": self.drift.to_dict()}


def _picture_of(draft: Draft, row_id: int) -> Optional[int]:
    """The id of the picture that a draft concerns; None if it concerns no picture."""
    if draft.kind in (TEACH, PROPOSE):
        return row_id
    return draft.subject if draft.kind in (ACCEPT, CORRECT, FORGET) else None


def _state_of(row: Row, projection: Projection) -> str:
    if row.step in projection.undone:
        return "undone"
    if row.kind not in (TEACH, PROPOSE):
        return "in effect"
    if row.id in projection.pending:
        return "pending"
    return "in effect" if projection.label_of(row.id) is not None else "forgotten"
