"""Hides how a device learns exactly and reversibly: applications and the CLI's learning verbs call the Learner."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Type, Union

import numpy as np
from PIL import Image

from edgetl.bundle import Bundle, is_label, open_bundle
from edgetl.errors import EdgetlError, ImageError, IntegrityError, LearningError, OptionError, StorageError
from edgetl.learners import LastLayer, Statistics
from edgetl.runtime.bundled import MODEL
from edgetl.runtime.classifier import Classifier
from edgetl.runtime.contents import (
    ACCEPT,
    CORRECT,
    FORGET,
    FORGET_CLASS,
    PROPOSE,
    RENAME,
    RESET,
    TEACH,
    UNDO,
    Contents,
    Row,
)
from edgetl.runtime.guard import Effect, Guard
from edgetl.runtime.journal import Draft, Journal, Note
from edgetl.runtime.knowledge import Knowledge, pack_layer, unpack_layer
from edgetl.runtime.preprocess import ImageSource, decode
from edgetl.runtime.sharing import (
    carry_over,
    merged_rows,
    origins_in,
    pack_learned,
    pack_patch,
    read_taught,
    shipped_origins,
)

BundleSource = Union[Bundle, str, "os.PathLike[str]"]
Folder = Union[str, "os.PathLike[str]"]

THUMBNAIL_SIDE = 320
"""The longer side of a stored thumbnail, in pixels: enough for the frame of a later backbone."""


@dataclass(frozen=True)
class Step:
    """What one operation did. It is on the disk when you hold this."""

    id: int
    kind: str
    label: Optional[str]
    pictures: Tuple[int, ...]
    """The ids of the pictures it is about; `correct` and `forget` take these."""
    subject: Optional[int] = None
    """Of an undo: the step that it takes back."""
    accepted: bool = True
    """False where the guard refused it: the pictures are kept and wait, nothing else has changed."""
    effect: Optional[Effect] = None
    """What it does to the known classes; only where a guard was set. `Learner.effect` gives it for any step."""
    not_carried: int = 0
    """Of a merge: pictures of another backbone that have no thumbnail to learn from again."""

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

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "labels": list(self.labels), "forgotten_classes": list(self.forgotten_classes)}


class Learner:
    """Teaches a bundle on the device, exactly and reversibly; what was taught lies in a folder of its own.

    Every operation is one row of a journal, or one for each picture, and is on the disk before it is
    acknowledged. What the classifier knows is always the shipped statistics plus what of the journal is in
    effect: in whatever order, after whatever undoing, equal to the bit. Any number of processes may share a state.

    The last layer is solved again when it is next needed; every classifier of the state follows, here at once, in
    another process after it was published or a moment later. A class of the bundle that is forgotten no longer
    competes, while the covariance that all classes share keeps what it learned from it, for its part of the Gram
    matrix cannot be told apart.

    `state` is the folder, beside the bundle unless it is given; `threads` as for Classifier; with `thumbnails` small
    JPEGs are kept too, from which a later backbone can learn again. Thread-safe.
    Raises BundleError, LearningError where the state belongs to another bundle, StorageError.
    """

    def __init__(
        self,
        bundle: BundleSource,
        state: Optional[Folder] = None,
        threads: Optional[int] = None,
        thumbnails: bool = False,
    ) -> None:
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._threads = threads
        self._thumbnails = thumbnails
        self._lock = threading.RLock()
        self._classifier: Optional[Classifier] = None
        self._identity = identity_of(self._bundle)
        self._journal = Journal(state_folder(self._bundle.path) if state is None else state, self._identity)
        self._knowledge = Knowledge(self._bundle, self._journal.embeddings)
        self._guard: Optional[Guard] = None
        self._contents = Contents(self._bundle.manifest.labels, origins=shipped_origins(self._bundle))
        self._layer, self._layer_position, self._own_position = self._knowledge.shipped_layer, -1, -1

    def __enter__(self) -> Learner:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the journal. What was acknowledged is on the disk whether or not this is called."""
        with self._lock:
            if self._layer_position == self._contents.position:
                self._keep_layer()
            self._journal.close()

    @property
    def labels(self) -> Tuple[str, ...]:
        """The classes in effect: the shipped ones first, then those taught, the oldest first."""
        return self._current().labels

    @property
    def folder(self) -> Path:
        """Where the state lies."""
        return self._journal.folder

    def teach(self, image: ImageSource, label: str, guard: Optional[float] = None) -> Step:
        """Learns that an image shows a class, which may be a new one.

        With `guard`, a step that costs the known classes more than so many points is refused; see `teach_many`.
        Raises ImageError, LearningError on a label that cannot be one, StorageError.
        """
        return self.teach_many([image], label, guard=guard)

    def teach_many(
        self,
        images: Iterable[ImageSource],
        label: str,
        guard: Optional[float] = None,
        on_unreadable: Optional[Callable[[ImageError], None]] = None,
    ) -> Step:
        """Learns several images of one class in one step, which one `undo` takes back.

        With `guard`, the step is first tried on the guard set, together with the pictures of this class that wait
        from before; where it would cost the known classes more than `guard` points of accuracy, it is not
        `accepted`, and its pictures wait. An image that cannot be read raises ImageError, and nothing is learned,
        unless `on_unreadable` takes the error.
        """
        drafts = []
        for image in images:
            try:
                drafts.append(self._draft(image, label))
            except ImageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
        return self._teach(drafts, label, guard)

    def teach_embeddings(self, raw: np.ndarray, label: str, guard: Optional[float] = None) -> Step:
        """Learns raw embeddings (d,) or (n, d), as `Classifier.embed` gives them, in one step."""
        drafts = [Draft(TEACH, label, embedding=data) for data in self._knowledge.encode(raw)]
        return self._teach(drafts, label, guard)

    def correct(self, picture: int, label: str) -> Step:
        """Gives a picture that was taught here another label."""
        _require_label(label)

        def draft(contents: Contents) -> List[Draft]:
            if _known_label(contents, picture) == label:
                raise LearningError(f"picture {picture} is a '{label}' already; give another label")
            return [Draft(CORRECT, label, subject=picture)]

        return self._record(draft)

    def forget(self, picture: int) -> Step:
        """Takes a picture that was taught here out again, exactly."""

        def draft(contents: Contents) -> List[Draft]:
            return [Draft(FORGET, _known_label(contents, picture), subject=picture)]

        return self._record(draft)

    def forget_class(self, label: str) -> Step:
        """Takes a whole class out. Pictures taught here leave no trace; see the class about shipped ones."""

        def draft(contents: Contents) -> List[Draft]:
            _require_class(contents, label)
            if len(contents.labels) == 1:
                raise LearningError(f"'{label}' is the only class; teach another one first")
            return [Draft(FORGET_CLASS, label)]

        return self._record(draft)

    def rename(self, old: str, new: str) -> Step:
        """Gives a class another name that no class has yet."""
        _require_label(new)

        def draft(contents: Contents) -> List[Draft]:
            _require_class(contents, old)
            if new in contents.labels:
                raise LearningError(f"there already is a class '{new}'; correct the pictures of '{old}' instead")
            return [Draft(RENAME, new, former=old)]

        return self._record(draft)

    def undo(self) -> Step:
        """Takes the latest step back that is still in effect, as if it had never been; `reset` counts as one too.

        Called again it takes the step before that. What was undone stays in the history, and out of effect.
        """

        def draft(contents: Contents) -> List[Draft]:
            last = contents.last_step
            if last is None:
                raise LearningError("there is nothing to undo: the state is as shipped")
            return [Draft(UNDO, subject=last.id)]

        return self._record(draft)

    def reset(self) -> Step:
        """Goes back to what was shipped. The history stays, and `undo` brings everything back."""
        return self._record(lambda contents: [Draft(RESET)])

    def history(self) -> List[Entry]:
        """Every row of the journal, the oldest first."""
        with self._lock:
            contents, notes = self._current(), self._journal.notes()
            return [_entry(row, contents, notes) for row in contents.rows if row.id in notes]

    def status(self) -> Status:
        """Where the state stands."""
        with self._lock:
            contents = self._current()
            statistics = self._knowledge.statistics(contents)
            taught = Counter(contents.pictures.values())
            counts = dict(zip(statistics.labels, statistics.counts.tolist()))
            return Status(
                bundle=self._bundle.manifest.name,
                state=str(self.folder),
                labels=contents.labels,
                pictures={
                    label: {"shipped": counts[label] - taught[label], "taught": taught[label]}
                    for label in contents.labels
                },
                pending=len(contents.pending),
                forgotten_classes=tuple(old for old, new in contents.shipped.items() if new is None),
                steps=sum(row.id == row.step for row in contents.rows),
                size_bytes=self._journal.size_bytes(),
                writable=self._journal.writable,
            )

    def effect(self, step: Optional[int] = None) -> Optional[Effect]:
        """What a step, the latest unless it is given, did to the known classes; None without a guard set."""
        with self._lock:
            contents = self._current()
            steps = [row.id for row in contents.rows if row.id == row.step]
            chosen = step if step is not None else max(steps, default=0)
            if chosen not in steps:
                raise LearningError(f"there is no step {chosen}; see the ids of all: edgetl history")
            if not self._guard_set().exists:
                return None
            after = contents.after(chosen)
            effect = self._guard_set().compare(contents.before(chosen), after)
            return replace(effect, taught=self._guard_set().judge_taught(after))

    def statistics(self) -> Statistics:
        """A copy of the statistics in effect."""
        with self._lock:
            return self._knowledge.statistics(self._current()).copy()

    def last_layer(self) -> LastLayer:
        """The last layer in effect: solved here, or by another process that came first."""
        with self._lock:
            contents = self._current()
            if self._layer_position != contents.position:
                self._take(contents, self._kept_layer(contents) or self._knowledge.last_layer(contents))
            return self._layer

    def publish(self) -> None:
        """Solves the last layer and stores it, so that other processes need not; `close` does if it is solved.

        Without it, their classifiers solve it for themselves, after `PATIENCE_SECONDS`.
        """
        with self._lock:
            self.last_layer()
            self._keep_layer()

    def classifier(self) -> Classifier:
        """A classifier that knows what was taught up to each prediction, here or in another process."""
        with self._lock:
            if self._classifier is None:
                self._classifier = _LearningClassifier(self, self._bundle, self._threads)
            return self._classifier

    def merge(self, *sources: Folder) -> Step:
        """Takes in what was taught elsewhere: states of other devices, or patches that they exported.

        The result is as if this device had been taught everything: pictures count once however often, and by
        whatever way, they come; those already here keep the label that they have here; what all devices were
        shipped with counts once. Pictures of another backbone are learned again from their thumbnails.
        """
        taught = [read_taught(source) for source in sources]
        if not taught:
            raise LearningError("there is nothing to merge; give the state folders of other devices, or patches")
        size = self._knowledge.embedding_bytes
        carried = [carry_over(part, self._identity, size, self._embedding_of_thumbnail) for part in taught]

        def draft(contents: Contents) -> List[Draft]:
            device = self._journal.identity()["device"]
            drafts: List[Draft] = []
            for part in carried:
                drafts += merged_rows(part, contents.with_rows(_supposed_rows(drafts)), device)
            return drafts

        return self._record(draft, not_carried=sum(part.lost for part in carried))

    def export_patch(self, path: Folder) -> Path:
        """Writes what was taught as one small file, which `merge` takes in on any device of the same backbone."""
        with self._lock:
            return pack_patch(Path(path), self._bundle, self._journal)

    def export_bundle(self, path: Folder) -> Path:
        """Writes a bundle with the same backbone and what was taught: its last layer, statistics and canaries."""
        with self._lock:
            contents = self._current()
            statistics, names = self._knowledge.statistics(contents), self._knowledge.names(contents)
            origins = shipped_origins(self._bundle) | origins_in(contents, self._journal)
            return pack_learned(Path(path), self._bundle, self.last_layer(), statistics, names, origins)

    def _embedding_of_thumbnail(self, thumbnail: bytes) -> bytes:
        return self._knowledge.encode(self.classifier().embed(thumbnail))[0]

    def _teach(self, drafts: Sequence[Draft], label: str, guard: Optional[float]) -> Step:
        _require_label(label)
        if guard is None:
            return self._record(lambda contents: _require_pictures(drafts, label))
        if not 0 <= guard <= 100:
            raise OptionError(f"guard is {guard}; give the points of accuracy a step may cost, 0 to 100")
        with self._lock:
            waiting = [key for key, proposed in self._current().pending.items() if proposed == label]
            accepted = [*drafts, *(Draft(ACCEPT, label, subject=key) for key in waiting)]
            effect = self._foresee(_require_pictures(accepted, label))
            if effect.cost_points <= guard:
                return self._record(lambda contents: accepted, effect)
            if not drafts:
                return Step(0, PROPOSE, label, tuple(waiting), accepted=False, effect=effect)
            proposals = [replace(draft, kind=PROPOSE) for draft in drafts]
            return self._record(lambda contents: proposals, effect, accepted=False)

    def _record(
        self,
        draft: Callable[[Contents], Sequence[Draft]],
        effect: Optional[Effect] = None,
        accepted: bool = True,
        not_carried: int = 0,
    ) -> Step:
        """Appends the rows that `draft` makes of what is in effect, with all other writers excluded."""
        with self._lock:
            if not self._current().rows:
                draft(self._contents)  # what cannot be done must not make a state
            with self._journal.writing():
                drafts = draft(self._current())
                ids = self._journal.append(drafts)
            self._own_position = ids[-1]
            first = drafts[0]
            about = [d.subject if d.subject and d.kind != UNDO else i for d, i in zip(drafts, ids) if _is_about(d)]
            subject = first.subject if first.kind == UNDO else None
            return Step(ids[0], first.kind, first.label, tuple(about), subject, accepted, effect, not_carried)

    def _current(self) -> Contents:
        """What is in effect, with what other processes have written."""
        with self._lock:
            self._contents.extend(self._journal.rows_after(self._contents.position))
            return self._contents

    def _foresee(self, drafts: Sequence[Draft]) -> Effect:
        """What drafts would do."""
        guard, contents = self._guard_set(), self._current()
        if not guard.exists:
            raise LearningError("this bundle has no guard set; build it with validation photos, or teach without guard")
        rows = _supposed_rows(drafts)
        self._knowledge.suppose({row.id: d.embedding for row, d in zip(rows, drafts) if d.embedding is not None})
        return guard.compare(contents, contents.with_rows(rows))

    def _guard_set(self) -> Guard:
        if self._guard is None:
            self._guard = Guard(self._bundle, self._knowledge)
        return self._guard

    def _draft(self, image: ImageSource, label: str) -> Draft:
        """A picture to teach; it is decoded once for its embedding and its thumbnail."""
        _require_label(label)
        classifier = self.classifier()
        source = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        thumbnail = None
        if self._thumbnails:
            image = decode(image, size_hint=(THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            thumbnail = _thumbnail(image)
        (data,) = self._knowledge.encode(classifier.embed(image))
        return Draft(TEACH, label, source=source, embedding=data, thumbnail=thumbnail)

    def _kept_layer(self, contents: Contents) -> Optional[LastLayer]:
        if contents.is_as_shipped:
            return None
        data = self._journal.kept(_LAYER, contents.position)
        with contextlib.suppress(IntegrityError):
            return unpack_layer(data) if data is not None else None
        return None

    def _keep_layer(self) -> None:
        """Stores the last layer in effect; where the disk refuses, each process solves it for itself."""
        if self._contents.is_as_shipped:
            return
        with contextlib.suppress(StorageError):
            if self._kept_layer(self._contents) is None:
                self._journal.keep(_LAYER, self._contents.position, pack_layer(self._layer))

    def _layer_at_hand(self) -> Optional[LastLayer]:
        """The last layer in effect, unless another process has just taught, and so is about to solve it."""
        with self._lock:
            contents = self._current()
            if contents.position in (self._layer_position, self._own_position) or contents.is_as_shipped:
                return self.last_layer()
            return self._take(contents, self._kept_layer(contents))

    def _take(self, contents: Contents, layer: Optional[LastLayer]) -> Optional[LastLayer]:
        if layer is not None:
            self._layer, self._layer_position = layer, contents.position
        return layer


def state_folder(bundle: Union[str, os.PathLike[str]]) -> Path:
    """Where a bundle's state lies unless another folder is given: NAME.state beside NAME.edgetl."""
    return Path(bundle).with_suffix(".state")


def identity_of(bundle: Bundle) -> Dict[str, str]:
    """What a state of this bundle is known by: its content, its model, its name and its classes."""
    return {
        "bundle": bundle.digest,
        "model": hashlib.sha256(bundle.read(MODEL)).hexdigest(),
        "name": bundle.manifest.name,
        "labels": json.dumps(bundle.manifest.labels, ensure_ascii=False),
    }


PATIENCE_SECONDS = 0.5
"""How long a classifier leaves it to the process that taught to solve the last layer too."""

_LAYER = "last layer"
_THUMBNAIL_QUALITY = 85


class _LearningClassifier(Classifier):
    """Looks before each prediction whether anything was committed; with no better one, the last good layer stays."""

    def __init__(self, learner: Learner, bundle: Bundle, threads: Optional[int]) -> None:
        super().__init__(bundle, threads)
        self._learner = learner
        self._layer_lock = threading.Lock()
        self._is_behind = False
        self._patience_ends = 0.0
        self._last_layer = learner.last_layer()

    def _current_layer(self) -> LastLayer:
        with self._layer_lock:
            try:
                if self._learner._journal.has_changed():
                    self._is_behind, self._patience_ends = True, monotonic() + PATIENCE_SECONDS
                if self._is_behind:
                    self._catch_up()
            except EdgetlError:
                self._is_behind = False
            return self._last_layer

    def _catch_up(self) -> None:
        layer = self._learner._layer_at_hand()
        if layer is None and monotonic() >= self._patience_ends:
            layer = self._learner.last_layer()
        if layer is not None:
            self._last_layer, self._is_behind = layer, False


def _supposed_rows(drafts: Sequence[Draft]) -> List[Row]:
    """Rows as drafts would make them; their pictures have negative ids, which no journal has."""
    return [Row(-1 - n, -1, d.kind, d.label, d.subject, d.former, d.origin) for n, d in enumerate(drafts)]


def _is_about(draft: Draft) -> bool:
    return draft.kind in (TEACH, PROPOSE, ACCEPT, CORRECT, FORGET)


def _entry(row: Row, contents: Contents, notes: Mapping[int, Note]) -> Entry:
    note = notes[row.id]
    now = contents.label_of(row.id)
    if row.step in contents.undone:
        state = "undone"
    elif row.kind in (TEACH, PROPOSE):
        state = "pending" if row.id in contents.pending else "in effect" if now is not None else "forgotten"
    else:
        state = "in effect"
    return Entry(
        id=row.id,
        step=row.step,
        kind=row.kind,
        label=row.label,
        subject=row.subject,
        former=row.former,
        time=note.time,
        source=note.source,
        state=state,
        now=now,
        has_thumbnail=note.has_thumbnail,
    )


def _require_label(label: str) -> None:
    if not is_label(label):
        raise LearningError(f"a label is {label!r}; give a text of 1 to 200 characters without control characters")


def _require_class(contents: Contents, label: str) -> None:
    if label not in contents.labels:
        raise LearningError(f"there is no class '{label}'; choose {', '.join(contents.labels)}")


def _require_pictures(drafts: Sequence[Draft], label: str) -> Sequence[Draft]:
    if not drafts:
        raise LearningError(f"there is no picture to teach '{label}' with; give at least one that can be read")
    return drafts


def _known_label(contents: Contents, picture: int) -> str:
    label = contents.label_of(picture)
    if label is None:
        raise LearningError(
            f"there is no picture {picture} among those taught here; see their ids: edgetl history. "
            "Those that the bundle was built from have none: teach better ones, or forget a whole class"
        )
    return label


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_THUMBNAIL_QUALITY)
    return stream.getvalue()
