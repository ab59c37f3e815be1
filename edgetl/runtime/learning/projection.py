"""Hides what a journal's rows add up to: which pictures count for which class; the Learner calls it."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

TEACH, PROPOSE, ACCEPT = "teach", "propose", "accept"
CORRECT, FORGET, FORGET_CLASS = "correct", "forget", "forget-class"
RENAME, MERGE, ADAPT, RESET, UNDO = "rename", "merge", "adapt", "reset", "undo"

SPANNED = -1
"""The subject of an adaptation that lets a class hold under old and new conditions alike."""

MOST_HALVINGS = 62
"""No row can take more off: what is left of a count stays above zero."""


class Row(NamedTuple):
    """One operation as the journal holds it, without its embedding. The ids give the order, never the clock."""

    id: int
    step: int
    """The id of the first row of its step: what was asked for at once, and is undone at once."""
    kind: str
    label: Optional[str] = None
    subject: Optional[int] = None
    """The picture (the id of the row that brought it); of an undo, the step that it takes back; of an adaptation, how
    often the count of what was shipped of the class is halved, or SPANNED."""
    former: Optional[str] = None
    """The label that a rename replaces."""
    origin: Optional[str] = None
    """Where a merged picture was first taught: "DEVICE:ID"."""


class Contents:
    """What is in effect after some rows.

    `shipped` gives for each class of the bundle the label it has now, None where it was forgotten; `pictures`
    the label of every picture in effect, by id; `pending` those that the guard refused and that wait; `origins`
    where the merged ones came from, also of those that were forgotten since, or shipped; `adapted` how often the
    count of what was shipped is halved, or SPANNED, for those classes of the bundle that an adaptation changed.
    Every row is taken in whatever it says, so that a journal can always be read to its end.
    """

    def __init__(self, shipped: Iterable[str], rows: Iterable[Row] = (), origins: Iterable[str] = ()) -> None:
        self._shipped_labels = tuple(shipped)
        self._shipped_origins = frozenset(origins)
        self.rows: List[Row] = []
        self.undone: Set[int] = set()
        self._clear()
        self.extend(rows)

    @property
    def position(self) -> int:
        """The id of the last row; 0 where there is none."""
        return self.rows[-1].id if self.rows else 0

    @property
    def labels(self) -> Tuple[str, ...]:
        """The classes in effect: the shipped ones first, in their order, then those taught, the oldest first."""
        shipped = (label for label in self.shipped.values() if label is not None)
        return tuple(dict.fromkeys([*shipped, *self.pictures.values()]))

    @property
    def is_as_shipped(self) -> bool:
        """Whether nothing that was taught is in effect."""
        return not self.pictures and all(old == new for old, new in self.shipped.items())

    @property
    def adaptations(self) -> Dict[str, int]:
        """`adapted`, by the label that each class has now."""
        named = {self.shipped[name]: subject for name, subject in self.adapted.items()}
        return {label: subject for label, subject in named.items() if label is not None}

    @property
    def halvings(self) -> Dict[str, int]:
        """By label: how often the count of what was shipped is halved, where it is."""
        return {label: subject for label, subject in self.adaptations.items() if subject != SPANNED}

    @property
    def spanned(self) -> Tuple[str, ...]:
        """The labels of those classes that hold under old and new conditions alike."""
        return tuple(label for label, subject in self.adaptations.items() if subject == SPANNED)

    @property
    def last_step(self) -> Optional[Row]:
        """The first row of the latest step in effect: what `undo` takes back."""
        for row in reversed(self.rows):
            if row.kind != UNDO and row.step not in self.undone:
                return next(other for other in self.rows if other.id == row.step)
        return None

    def label_of(self, picture: int) -> Optional[str]:
        """The label of a picture in effect or pending; None where it is neither."""
        return self.pictures.get(picture, self.pending.get(picture))

    def extend(self, rows: Iterable[Row]) -> None:
        """Takes in the rows that follow."""
        following = list(rows)
        self.rows += following
        undone = {row.subject for row in following if row.kind == UNDO and row.subject is not None}
        if undone:
            self.undone |= undone
            self._fold()
        else:
            for row in following:
                self._apply(row)

    def before(self, step: int) -> Contents:
        """What was in effect before a step."""
        return self._of(row for row in self.rows if row.id < step)

    def after(self, step: int) -> Contents:
        """What was in effect after a step."""
        return self._of(row for row in self.rows if row.id < step or row.step == step)

    def with_rows(self, rows: Iterable[Row]) -> Contents:
        """What would be in effect if these rows followed."""
        return self._of([*self.rows, *rows])

    def _of(self, rows: Iterable[Row]) -> Contents:
        return Contents(self._shipped_labels, rows, self._shipped_origins)

    def _clear(self) -> None:
        self.shipped: Dict[str, Optional[str]] = {label: label for label in self._shipped_labels}
        self.pictures: Dict[int, str] = {}
        self.pending: Dict[int, str] = {}
        self.origins: Set[str] = set(self._shipped_origins)
        self.adapted: Dict[str, int] = {}

    def _fold(self) -> None:
        self._clear()
        for row in self.rows:
            if row.kind != UNDO and row.step not in self.undone:
                self._apply(row)

    def _apply(self, row: Row) -> None:
        apply = _EFFECTS.get(row.kind)
        if apply is not None:
            apply(self, row)

    def _teach(self, row: Row) -> None:
        self.pictures[row.id] = str(row.label)
        if row.origin is not None:
            self.origins.add(row.origin)

    def _propose(self, row: Row) -> None:
        self.pending[row.id] = str(row.label)

    def _accept(self, row: Row) -> None:
        label = self.pending.pop(row.subject or 0, None)
        if label is not None:
            self.pictures[row.subject or 0] = label

    def _correct(self, row: Row) -> None:
        for holder in (self.pictures, self.pending):
            if row.subject in holder:
                holder[row.subject] = str(row.label)

    def _forget(self, row: Row) -> None:
        for holder in (self.pictures, self.pending):
            holder.pop(row.subject or 0, None)

    def _forget_class(self, row: Row) -> None:
        self._relabel(row.label, None)
        for holder in (self.pictures, self.pending):
            for picture in [picture for picture, label in holder.items() if label == row.label]:
                del holder[picture]

    def _rename(self, row: Row) -> None:
        self._relabel(row.former, row.label)
        for holder in (self.pictures, self.pending):
            holder.update({picture: str(row.label) for picture, label in holder.items() if label == row.former})

    def _adapt(self, row: Row) -> None:
        subject = min(max(row.subject or 0, SPANNED), MOST_HALVINGS)
        for name, label in self.shipped.items():
            if label is not None and label == row.label:
                self.adapted[name] = subject
        self.adapted = {name: subject for name, subject in self.adapted.items() if subject}

    def _reset(self, row: Row) -> None:
        self._clear()

    def _relabel(self, old: Optional[str], new: Optional[str]) -> None:
        for name, label in self.shipped.items():
            if label is not None and label == old:
                self.shipped[name] = new


_EFFECTS: Dict[str, Callable[[Contents, Row], None]] = {
    TEACH: Contents._teach,
    PROPOSE: Contents._propose,
    ACCEPT: Contents._accept,
    CORRECT: Contents._correct,
    FORGET: Contents._forget,
    FORGET_CLASS: Contents._forget_class,
    RENAME: Contents._rename,
    ADAPT: Contents._adapt,
    RESET: Contents._reset,
}
