"""Folds the rows of a journal into what is in effect: the classes, and the pictures of each."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

TEACH, PROPOSE, ACCEPT = "teach", "propose", "accept"
CORRECT, FORGET, FORGET_CLASS = "correct", "forget", "forget-class"
RENAME, MERGE, ADAPT, RESET, UNDO = "rename", "merge", "adapt", "reset", "undo"

SPANNED = -1
"""The subject of an adaptation row that makes a class hold under old and new conditions alike."""

MAX_HALVINGS = 62
"""The limit on halvings, whatever a row contains: the remaining weight stays above zero."""


class Row(NamedTuple):
    """One row of the journal, without its embedding. The ids, not the times, give the order."""

    id: int
    step: int
    """The id of the first row of its step. The rows of a step are recorded together and undone together."""
    kind: str
    label: Optional[str] = None
    subject: Optional[int] = None
    """The id of the picture, which is that of the row that taught it; of an undo, the id of the step that it reverses;
    of an adaptation, how often the count of the class's shipped pictures is halved, or SPANNED."""
    former: Optional[str] = None
    """Of a rename: the old label."""
    origin: Optional[str] = None
    """Of a merged picture: where it was first taught, as "DEVICE:ID"."""


class Projection:
    """What is in effect after some rows of a journal.

    Any row is accepted, whatever it contains, so that a journal can always be read to its end.

    Attributes:
        rows: the rows so far.
        undone: the ids of the steps that are undone.
        shipped: by class of the bundle, its present label; None if it was forgotten.
        pictures: by id, the label of each picture in effect.
        pending: by id, the label of each picture that the guard refused.
        origins: the origins of merged and shipped pictures, including those that were forgotten since.
        adapted: by class of the bundle, how often the count of its shipped pictures is halved, or SPANNED; only the
            classes that an adaptation changed.
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
        """The id of the last row; 0 without rows."""
        return self.rows[-1].id if self.rows else 0

    @property
    def labels(self) -> Tuple[str, ...]:
        """The classes in effect: the shipped ones in their order, then the taught ones, the oldest first."""
        shipped = (label for label in self.shipped.values() if label is not None)
        return tuple(dict.fromkeys([*shipped, *self.pictures.values()]))

    @property
    def is_as_shipped(self) -> bool:
        """Whether neither pictures nor changes of the shipped classes' labels are in effect."""
        return not self.pictures and all(old == new for old, new in self.shipped.items())

    @property
    def adaptations(self) -> Dict[str, int]:
        """`adapted`, by the present label of each class."""
        named = {self.shipped[name]: subject for name, subject in self.adapted.items()}
        return {label: subject for label, subject in named.items() if label is not None}

    @property
    def halvings(self) -> Dict[str, int]:
        """By label: how often the count of the shipped pictures is halved; only labels where it is."""
        return {label: subject for label, subject in self.adaptations.items() if subject != SPANNED}

    @property
    def spanned(self) -> Tuple[str, ...]:
        """The labels of the classes that an adaptation makes hold under old and new conditions alike."""
        return tuple(label for label, subject in self.adaptations.items() if subject == SPANNED)

    @property
    def last_step(self) -> Optional[Row]:
        """The first row of the latest step in effect, which `undo` would reverse."""
        for row in reversed(self.rows):
            if row.kind != UNDO and row.step not in self.undone:
                return next(other for other in self.rows if other.id == row.step)
        return None

    def label_of(self, picture: int) -> Optional[str]:
        """The label of a picture that is in effect or pending; None for any other id."""
        return self.pictures.get(picture, self.pending.get(picture))

    def extend(self, rows: Iterable[Row]) -> None:
        """Append the rows that follow, and apply them."""
        added = list(rows)
        self.rows += added
        undone = {row.subject for row in added if row.kind == UNDO and row.subject is not None}
        if undone:
            self.undone |= undone
            self._apply_all()
        else:
            for row in added:
                self._apply(row)

    def before(self, step: int) -> Projection:
        """Return what was in effect before a step."""
        return self._of(row for row in self.rows if row.id < step)

    def after(self, step: int) -> Projection:
        """Return what was in effect after a step."""
        return self._of(row for row in self.rows if row.id < step or row.step == step)

    def with_rows(self, rows: Iterable[Row]) -> Projection:
        """Return what would be in effect if these rows followed."""
        return self._of([*self.rows, *rows])

    def _of(self, rows: Iterable[Row]) -> Projection:
        return Projection(self._shipped_labels, rows, self._shipped_origins)

    def _clear(self) -> None:
        self.shipped: Dict[str, Optional[str]] = {label: label for label in self._shipped_labels}
        self.pictures: Dict[int, str] = {}
        self.pending: Dict[int, str] = {}
        self.origins: Set[str] = set(self._shipped_origins)
        self.adapted: Dict[str, int] = {}

    def _apply_all(self) -> None:
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
        subject = min(max(row.subject or 0, SPANNED), MAX_HALVINGS)
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


_EFFECTS: Dict[str, Callable[[Projection, Row], None]] = {
    TEACH: Projection._teach,
    PROPOSE: Projection._propose,
    ACCEPT: Projection._accept,
    CORRECT: Projection._correct,
    FORGET: Projection._forget,
    FORGET_CLASS: Projection._forget_class,
    RENAME: Projection._rename,
    ADAPT: Projection._adapt,
    RESET: Projection._reset,
}
