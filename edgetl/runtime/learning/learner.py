"""Hides how a device learns exactly and reversibly: applications and the CLI's learning verbs call the Learner."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from edgetl.bundle import Bundle, open_bundle
from edgetl.errors import ImageError, LearningError, OptionError
from edgetl.learners import Drift, LastLayer, Statistics
from edgetl.learners.drift import MIN_PICTURES, UNKNOWN
from edgetl.runtime.inference.classifier import Classifier
from edgetl.runtime.inference.preprocess import ImageSource
from edgetl.runtime.learning import operations
from edgetl.runtime.learning.exchange import (
    carry_over,
    merged_rows,
    origins_in,
    pack_frozen,
    pack_learned,
    pack_patch,
    read_taught,
    shipped_origins,
)
from edgetl.runtime.learning.guard import Effect, Guard
from edgetl.runtime.learning.journal import Draft
from edgetl.runtime.learning.live_classifier import FollowingClassifier, LayerInEffect
from edgetl.runtime.learning.observation_log import Observer
from edgetl.runtime.learning.projection import ACCEPT, ADAPT, PROPOSE, RESET, SPANNED, TEACH, UNDO, Contents
from edgetl.runtime.learning.results import Entry, Status, Step
from edgetl.runtime.learning.state import Drafting, State
from edgetl.runtime.stream.sources import Source

BundleSource = Union[Bundle, str, "os.PathLike[str]"]
Folder = Union[str, "os.PathLike[str]"]


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
    JPEGs are kept too, from which a later backbone can learn again. Unless `observe` is off, what its classifier
    predicts is summed up for `drift`, without the pictures. Thread-safe.
    Raises BundleError, LearningError where the state belongs to another bundle, StorageError.
    """

    def __init__(
        self,
        bundle: BundleSource,
        state: Optional[Folder] = None,
        threads: Optional[int] = None,
        thumbnails: bool = False,
        observe: bool = True,
    ) -> None:
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._threads = threads
        self._thumbnails = thumbnails
        self._state = State(self._bundle, state)
        self._layer = LayerInEffect(self._state)
        self._observer = Observer(self.folder, self._bundle.digest, self._bundle.manifest.embedding["size"])
        self._observes = observe
        self._classifier: Optional[Classifier] = None
        self._guard: Optional[Guard] = None

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
        with self._state.lock:
            self._layer.publish_if_solved()
            self._observer.close()
            self._state.journal.close()

    @property
    def labels(self) -> Tuple[str, ...]:
        """The classes in effect: the shipped ones first, then those taught, the oldest first."""
        return self._state.contents().labels

    @property
    def folder(self) -> Path:
        """Where the state lies."""
        return self._state.journal.folder

    def teach(self, image: ImageSource, label: str, guard: Optional[float] = None) -> Step:
        """Learns that an image shows a class, which may be a new one.

        With `guard`, a step that costs the known classes more than so many points is refused; see `teach_many`.
        Raises ImageError, LearningError on a label that cannot be one, StorageError.
        """
        return self.teach_many([image], label, guard=guard)

    def teach_many(
        self,
        images: Iterable[Union[ImageSource, Source]],
        label: str,
        guard: Optional[float] = None,
        on_unreadable: Optional[Callable[[ImageError], None]] = None,
    ) -> Step:
        """Learns several images of one class in one step, which one `undo` takes back; a `Source` gives one a name.

        With `guard`, the step is first tried on the guard set, together with the pictures of this class that wait
        from before; where it would cost the known classes more than `guard` points of accuracy, it is not
        `accepted`, and its pictures wait. An image that cannot be read raises ImageError, and nothing is learned,
        unless `on_unreadable` takes the error.
        """
        label = self._class_meant(label)
        drafts = []
        for image in images:
            try:
                drafts.append(self._draw_up(image, label))
            except ImageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
        return self._teach(drafts, label, guard)

    def teach_embeddings(self, raw: np.ndarray, label: str, guard: Optional[float] = None) -> Step:
        """Learns raw embeddings (d,) or (n, d), as `Classifier.embed` gives them, in one step."""
        label = self._class_meant(label)
        drafts = [Draft(TEACH, label, embedding=data) for data in self._state.knowledge.encode(raw)]
        return self._teach(drafts, label, guard)

    def correct(self, picture: int, label: str, guard: Optional[float] = None) -> Step:
        """Gives a picture that was taught here another label. Refused by `guard`, the picture keeps its label."""
        label = self._class_meant(label)
        return self._record(lambda contents: operations.correction(contents, picture, label), guard)

    def forget(self, picture: int, guard: Optional[float] = None) -> Step:
        """Takes a picture that was taught here out again, exactly. Refused by `guard`, it stays."""
        return self._record(lambda contents: operations.removal(contents, picture), guard)

    def forget_class(self, label: str, guard: Optional[float] = None) -> Step:
        """Takes a whole class out. Pictures taught here leave no trace; see the class about shipped ones.

        `guard` looks at the other classes: a class that is forgotten loses nothing.
        """
        label = self._class_meant(label)
        return self._record(lambda contents: operations.class_removal(contents, label), guard)

    def rename(self, old: str, new: str) -> Step:
        """Gives a class another name that no class has yet."""
        old, new = self._class_meant(old), operations.spelled(new)
        return self._record(lambda contents: operations.renaming(contents, old, new))

    def undo(self) -> Step:
        """Takes the latest step back that is still in effect, as if it had never been; `reset` counts as one too.

        Called again it takes the step before that. What was undone stays in the history, and out of effect.
        """
        return self._record(operations.undoing)

    def reset(self) -> Step:
        """Goes back to what was shipped. The history stays, and `undo` brings everything back."""
        return self._record(lambda contents: [Draft(RESET)])

    def adapt(self, guard: Optional[float] = None, leave_old: bool = False) -> Step:
        """Lets the classes taught here hold under old and new conditions alike, where that serves these pictures.

        For conditions that have changed: teach some pictures of each class as they look now, then adapt. What differs
        between these and what was shipped then counts as a difference that tells no classes apart. Only where giving
        the old conditions up serves far better (with `leave_old`: better), what was shipped weighs less instead, if
        there are four pictures of each class or more. That is chosen by leave-one-out
        on the pictures in effect, the newest 600 of them; where it is in effect already, nothing is recorded, and the
        step has no id. The statistics stay as they are, to the bit: only the solver sees them differently, so `undo`
        and `reset` bring everything back. An adaptation is about the place of this device: it stays here, and goes
        with neither `merge` nor a patch.

        With `guard`, it is refused where it would cost the known classes too much as they were shipped.
        Raises LearningError where nothing was taught of a shipped class.
        """
        with self._state.lock:
            contents = self._state.contents()
            found = self._state.knowledge.adapt(contents, leave_old)
            if not found.helps:
                return Step(0, ADAPT, None, (), adaptation=found)
            chosen = {**found.halvings, **dict.fromkeys(found.spanned, SPANNED)}
            drafts = [
                Draft(ADAPT, label, subject=subject)
                for label, subject in chosen.items()
                if subject != contents.adaptations.get(label, 0)
            ]
            return self._record(lambda contents: drafts, guard, adaptation=found)

    def history(self) -> List[Entry]:
        """Every row of the journal, the oldest first."""
        with self._state.lock:
            contents, notes = self._state.contents(), self._state.journal.notes()
            return [Entry.of(row, contents, notes) for row in contents.rows if row.id in notes]

    def status(self) -> Status:
        """Where the state stands."""
        with self._state.lock:
            contents = self._state.contents()
            statistics = self._state.knowledge.statistics(contents)
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
                size_bytes=self._state.journal.size_bytes(),
                writable=self._state.journal.writable,
                halvings=contents.halvings,
                spanned=contents.spanned,
                drift=self.drift(),
            )

    def drift(self) -> Drift:
        """Whether what was classified since the latest step, the newest 200 pictures, still looks as was learned.

        It needs no model run: the classifiers of this state sum up what they predict, and store it now and then where
        the state's folder exists. How known pictures look is learned from the guard set.
        """
        with self._state.lock:
            contents = self._state.contents()
            window = self._observer.window(contents.position)
            if window is None or window.pictures < MIN_PICTURES:
                return Drift(UNKNOWN, window.pictures if window is not None else 0, {})
            as_shipped = contents.before(0)
            usual = self._guard_set().usual(as_shipped)
            return self._state.knowledge.drift(window, contents, usual)

    def effect(self, step: Optional[int] = None) -> Optional[Effect]:
        """What a step, the latest unless it is given, did to the known classes; None without a guard set."""
        with self._state.lock:
            contents = self._state.contents()
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
        with self._state.lock:
            return self._state.knowledge.statistics(self._state.contents()).copy()

    def last_layer(self) -> LastLayer:
        """The last layer in effect: solved here, or by another process that came first."""
        return self._layer.current()

    def publish(self) -> None:
        """Solves the last layer and stores it, so that other processes need not; `close` does if it is solved.

        Without it, their classifiers solve it for themselves, after `PATIENCE_SECONDS`.
        """
        self._layer.publish()

    def classifier(self) -> Classifier:
        """A classifier that knows what was taught up to each prediction, here or in another process."""
        with self._state.lock:
            if self._classifier is None:
                self._classifier = FollowingClassifier(
                    self._state, self._layer, self._threads, self._observer if self._observes else None
                )
            return self._classifier

    def merge(self, *sources: Folder, guard: Optional[float] = None) -> Step:
        """Takes in what was taught elsewhere: states of other devices, or patches that they exported.

        The result is as if this device had been taught everything: pictures count once however often, and by
        whatever way, they come; those already here keep the label that they have here; what all devices were
        shipped with counts once. Pictures of another backbone are learned again from their thumbnails. Refused by
        `guard`, nothing is taken in.
        """
        taught = [read_taught(source) for source in sources]
        if not taught:
            raise LearningError("there is nothing to merge; give the state folders of other devices, or patches")
        size = self._state.knowledge.embedding_bytes
        carried = [carry_over(part, self._state.identity, size, self._embedding_of_thumbnail) for part in taught]

        def draft(contents: Contents) -> List[Draft]:
            device = self._state.journal.identity()["device"]
            drafts: List[Draft] = []
            for part in carried:
                drafts += merged_rows(part, contents.with_rows(operations.supposed_rows(drafts, count(-1, -1))), device)
            return drafts

        return self._record(draft, guard, not_carried=sum(part.lost for part in carried))

    def export_patch(self, path: Folder) -> Path:
        """Writes what was taught as one small file, which `merge` takes in on any device of the same backbone."""
        with self._state.lock:
            return pack_patch(Path(path), self._bundle, self._state.journal)

    def export_bundle(self, path: Folder, frozen: bool = False) -> Path:
        """Writes a bundle with the same backbone and what was taught: its last layer, statistics and canaries.

        A `frozen` one lacks statistics and guard set: it only classifies. Raises LearningError where an adaptation
        is in effect and it is to learn on: its statistics would count everything alike again.
        """
        with self._state.lock:
            contents = self._state.contents()
            if frozen:
                return pack_frozen(Path(path), self._bundle, self.last_layer())
            if contents.adapted:
                raise LearningError(
                    "an adaptation does not go into a bundle; undo it first, or export --format tflite, "
                    "or a patch, and adapt again where that is merged"
                )
            statistics, names = self._state.knowledge.statistics(contents), self._state.knowledge.names(contents)
            origins = shipped_origins(self._bundle) | origins_in(contents, self._state.journal)
            return pack_learned(Path(path), self._bundle, self.last_layer(), statistics, names, origins)

    def _embedding_of_thumbnail(self, thumbnail: bytes) -> bytes:
        return self._state.knowledge.encode(self.classifier().embed(thumbnail))[0]

    def _class_meant(self, label: str) -> str:
        """A class in effect of this very name; else the name as builds spell it, so that none is there twice."""
        return label if label in self.labels else operations.spelled(label)

    def _teach(self, drafts: Sequence[Draft], label: str, guard: Optional[float]) -> Step:
        if guard is None:
            return self._record(lambda contents: operations.require_pictures(drafts, label))
        with self._state.lock:
            waiting = [key for key, proposed in self._state.contents().pending.items() if proposed == label]
            accepted = [*drafts, *(Draft(ACCEPT, label, subject=key) for key in waiting)]
            step = self._record(lambda contents: operations.require_pictures(accepted, label), guard)
            if step.accepted or not drafts:
                return step
            proposals = [replace(draft, kind=PROPOSE) for draft in drafts]
            return self._record(lambda contents: proposals, accepted=False, effect=step.effect)

    def _record(self, make: Drafting, guard: Optional[float] = None, **told: Any) -> Step:
        """Appends the rows that `make` makes of what is in effect, unless they cost more points than `guard`."""
        if guard is None:
            return _step_of(*self._state.append(make), **told)
        if not 0 <= guard <= 100:
            raise OptionError(f"guard is {guard}; give the points of accuracy a step may cost, 0 to 100")
        with self._state.lock:
            drafts = make(self._state.contents())
            effect = self._foresee(drafts)
            if effect.cost_points > guard:
                return _step_of(drafts, [0] * len(drafts), **told, accepted=False, effect=effect)
            return _step_of(*self._state.append(make), **told, effect=effect)

    def _foresee(self, drafts: Sequence[Draft]) -> Effect:
        """What drafts would do."""
        guard, contents, knowledge = self._guard_set(), self._state.contents(), self._state.knowledge
        if not guard.exists:
            raise LearningError("this bundle has no guard set; build it with validation photos, or teach without guard")
        ids = knowledge.suppose([draft.embedding for draft in drafts])
        return guard.compare(contents, contents.with_rows(operations.supposed_rows(drafts, ids)))

    def _guard_set(self) -> Guard:
        if self._guard is None:
            self._guard = Guard(self._bundle, self._state.knowledge)
        return self._guard

    def _draw_up(self, image: Union[ImageSource, Source], label: str) -> Draft:
        return operations.drawn_up(image, label, self.classifier(), self._state.knowledge, self._thumbnails)


def _step_of(drafts: Sequence[Draft], ids: Sequence[int], **told: Any) -> Step:
    first = drafts[0]
    about = tuple(picture for picture in map(operations.picture_of, drafts, ids) if picture)
    return Step(ids[0], first.kind, first.label, about, first.subject if first.kind == UNDO else None, **told)
