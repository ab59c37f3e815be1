"""The Learner: teaches a bundle on the device, exactly and reversibly."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Callable, Iterable, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from edgetl.bundle import Bundle, open_bundle
from edgetl.errors import ImageError, LearningError, OptionError
from edgetl.learners import Drift, LastLayer, Statistics
from edgetl.runtime.inference.classifier import Classifier
from edgetl.runtime.inference.preprocess import ImageSource
from edgetl.runtime.learning import operations
from edgetl.runtime.learning.exchange import (
    convert,
    merge_drafts,
    pack_frozen,
    pack_learned,
    pack_patch,
    read_contribution,
    shipped_origins,
    taught_origins,
)
from edgetl.runtime.learning.guard import Effect, Guard
from edgetl.runtime.learning.journal import Draft
from edgetl.runtime.learning.live_classifier import LiveClassifier, LiveLastLayer
from edgetl.runtime.learning.observation_log import ObservationLog
from edgetl.runtime.learning.projection import ACCEPT, ADAPT, PROPOSE, RESET, SPANNED, TEACH, Projection
from edgetl.runtime.learning.recovery import recoveries
from edgetl.runtime.learning.results import HistoryEntry, Status, Step
from edgetl.runtime.learning.state import MakeDrafts, State
from edgetl.runtime.stream.sources import Source

BundleSource = Union[Bundle, str, "os.PathLike[str]"]
Folder = Union[str, "os.PathLike[str]"]


class Learner:
    """Teaches a bundle on the device, exactly and reversibly. What was taught is kept in a state folder.

    Every operation is one row of a journal, or one row for each picture, and is on the disk before it returns. The
    statistics of the classifier are always those that were shipped plus the pictures in effect: whatever the order,
    and whatever was undone, they are equal to the bit. Any number of processes may share a state. Thread-safe.

    The last layer is solved again when it is next needed. Every classifier of the state follows: in this process at
    once, in another process when the last layer is published, or half a second later.

    A forgotten class of the bundle no longer competes, but still contributes to the covariance that all classes
    share, because its part of the Gram matrix is not known separately.

    Args:
        bundle: the bundle to teach, or its path. The file itself does not change.
        state: the state folder; NAME.state beside the bundle by default.
        threads: as in Classifier.
        thumbnails: store small JPEGs too, from which a later backbone can learn again.
        observe: sum up what the classifier predicts, for `drift`; the pictures are not kept.

    Raises:
        BundleError: the bundle cannot be used, or has no statistics.
        LearningError: the state belongs to another bundle.
        StorageError: the state cannot be read.
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
        self._live_last_layer = LiveLastLayer(self._state)
        self._observations = ObservationLog(self.folder, self._bundle.digest, self._bundle.manifest.embedding["size"])
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
        """Close the journal. Steps that have returned are on the disk, whether or not this is called."""
        with self._state.lock:
            self._live_last_layer.publish_if_solved()
            self._observations.close()
            self._state.journal.close()

    @property
    def labels(self) -> Tuple[str, ...]:
        """The classes in effect: the shipped ones first, then those taught, the oldest first."""
        return self._state.projection().labels

    @property
    def folder(self) -> Path:
        """The state folder."""
        return self._state.journal.folder

    def teach(self, image: ImageSource, label: str, guard: Optional[float] = None, new_class: bool = False) -> Step:
        """Learn that an image shows a class, which may be a new one.

        With `guard`, a step that costs the known classes more points of accuracy is refused; see `teach_many`. A label
        that looks like that of another class is refused unless `new_class` is set.

        Raises:
            ImageError: the image cannot be read.
            LearningError: the label is invalid, or looks like that of another class.
            StorageError: the state cannot be written.
        """
        return self.teach_many([image], label, guard=guard, new_class=new_class)

    def teach_many(
        self,
        images: Iterable[Union[ImageSource, Source]],
        label: str,
        guard: Optional[float] = None,
        on_unreadable: Optional[Callable[[ImageError], None]] = None,
        new_class: bool = False,
    ) -> Step:
        """Learn several images of one class in one step, which one `undo` reverses.

        Args:
            images: the images; a `Source` also gives its image a name.
            label: the class, which may be a new one.
            guard: the points of accuracy, 0 to 100, that the step may cost the known classes on the guard set. The
                pending pictures of this class are taught with the new ones. A step that costs more is not `accepted`,
                and its pictures are pending.
            on_unreadable: called with the error of each image that cannot be read. Without it, the first such error
                is raised, and nothing is learned.
            new_class: accept a label that looks like that of another class.

        Raises:
            ImageError, LearningError, StorageError: as in `teach`; LearningError also if there is no image.
        """
        label = self._distinct_label(label, new_class)
        drafts = []
        for image in images:
            try:
                drafts.append(self._draft_teaching(image, label))
            except ImageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
        return self._teach(drafts, label, guard)

    def teach_embeddings(
        self, raw: np.ndarray, label: str, guard: Optional[float] = None, new_class: bool = False
    ) -> Step:
        """Learn raw embeddings (d,) or (n, d), as returned by `Classifier.embed`, in one step."""
        label = self._distinct_label(label, new_class)
        drafts = [Draft(TEACH, label, embedding=data) for data in self._state.live_statistics.encode(raw)]
        return self._teach(drafts, label, guard)

    def correct(self, picture: int, label: str, guard: Optional[float] = None, new_class: bool = False) -> Step:
        """Give a picture that was taught here another label. If `guard` refuses, the picture keeps its label."""
        label = self._distinct_label(label, new_class)
        return self._record(lambda projection: operations.correct(projection, picture, label), guard)

    def forget(self, picture: int, guard: Optional[float] = None) -> Step:
        """Remove a picture that was taught here, exactly. If `guard` refuses, the picture stays."""
        return self._record(lambda projection: operations.forget(projection, picture), guard)

    def forget_class(self, label: str, guard: Optional[float] = None) -> Step:
        """Remove a whole class. Pictures taught here leave no trace; for shipped pictures, see the class docstring.

        `guard` applies to the other classes only.
        """
        label = self._resolve_label(label)
        return self._record(lambda projection: operations.forget_class(projection, label), guard)

    def rename(self, old: str, new: str, new_class: bool = False) -> Step:
        """Rename a class; no other class may have the new name, or a similar-looking one unless `new_class` is set."""
        old, new = self._resolve_label(old), operations.normalized_label(new)
        if not new_class:
            operations.require_distinct(new, [label for label in self.labels if label != old])
        return self._record(lambda projection: operations.rename(projection, old, new))

    def undo(self) -> Step:
        """Reverse the latest step in effect, as if it had never been; a `reset` is a step too.

        A second call reverses the step before. Undone steps stay in the history.
        """
        return self._record(operations.undo)

    def reset(self) -> Step:
        """Return to what was shipped. The history stays, and `undo` restores everything."""
        return self._record(lambda projection: [Draft(RESET)])

    def adapt(self, guard: Optional[float] = None, leave_old: bool = False) -> Step:
        """Make the classes taught here hold under old and new conditions alike, if the taught pictures gain from it.

        For conditions that have changed: teach some pictures of each class as they look now, then adapt. The difference
        between these pictures and the shipped ones then no longer separates classes. The shipped pictures are given
        less weight instead only if that is much better (with `leave_old`: better), and if there are at least four
        taught pictures per class. The choice is made by leave-one-out on the newest 600 pictures in effect. If it
        equals what is in effect, nothing is recorded, and the step's id is 0.

        The statistics do not change, only how the solver sees them, so `undo` and `reset` restore everything. An
        adaptation is specific to the place of this device: neither `merge` nor a patch transfers it.

        With `guard`, it is refused if it costs the known classes too much under the shipped conditions.

        Raises:
            LearningError: no shipped class was taught.
        """
        with self._state.lock:
            projection = self._state.projection()
            adaptation = self._state.live_statistics.adapt(projection, leave_old)
            if not adaptation.helps:
                return Step(0, ADAPT, None, (), adaptation=adaptation)
            chosen = {**adaptation.halvings, **dict.fromkeys(adaptation.spanned, SPANNED)}
            drafts = [
                Draft(ADAPT, label, subject=subject)
                for label, subject in chosen.items()
                if subject != projection.adaptations.get(label, 0)
            ]
            return replace(self._record(lambda projection: drafts, guard), adaptation=adaptation)

    def history(self) -> List[HistoryEntry]:
        """Return every row of the journal, the oldest first."""
        with self._state.lock:
            projection, notes = self._state.projection(), self._state.journal.notes()
            return [HistoryEntry.of(row, projection, notes) for row in projection.rows if row.id in notes]

    def status(self) -> Status:
        """Return the status of the state."""
        with self._state.lock:
            projection = self._state.projection()
            statistics = self._state.live_statistics.statistics(projection)
            taught = Counter(projection.pictures.values())
            counts = dict(zip(statistics.labels, statistics.counts.tolist()))
            return Status(
                bundle=self._bundle.manifest.name,
                state=str(self.folder),
                labels=projection.labels,
                pictures={
                    label: {"shipped": counts[label] - taught[label], "taught": taught[label]}
                    for label in projection.labels
                },
                pending=len(projection.pending),
                forgotten_classes=tuple(old for old, new in projection.shipped.items() if new is None),
                steps=sum(row.id == row.step for row in projection.rows),
                size_bytes=self._state.journal.size_bytes(),
                writable=self._state.journal.writable,
                halvings=projection.halvings,
                spanned=projection.spanned,
                drift=self.drift(),
                set_aside=tuple(
                    f"{recovery.file}: {recovery.fault}; {recovery.rows} rows were recovered"
                    for recovery in recoveries(self.folder)
                ),
            )

    def drift(self) -> Drift:
        """Return whether the pictures classified since the latest step still look like those that were learned from.

        This runs no model. The classifiers of this state sum up what they predict, over the newest 200 pictures, and
        store the sums every half minute if the state folder exists. The usual values come from the guard set.
        """
        with self._state.lock:
            projection = self._state.projection()
            window = self._observations.window(projection.position)
            if window is None or not window.is_sufficient:
                return Drift.unknown(window.pictures if window is not None else 0)
            baseline = self._guard_set().baseline(projection.before(0))
            return self._state.live_statistics.drift(window, projection, baseline)

    def effect(self, step: Optional[int] = None) -> Optional[Effect]:
        """Estimate the effect of a step, by default the latest, on the known classes; None without a guard set.

        Raises:
            LearningError: no step has this id.
        """
        with self._state.lock:
            projection = self._state.projection()
            steps = [row.id for row in projection.rows if row.id == row.step]
            chosen = step if step is not None else max(steps, default=0)
            if chosen not in steps:
                raise LearningError(f"unknown step {chosen}. List the steps: edgetl history")
            if not self._guard_set().exists:
                return None
            after = projection.after(chosen)
            effect = self._guard_set().compare(projection.before(chosen), after)
            return replace(effect, taught=self._guard_set().taught_accuracy(after))

    def statistics(self) -> Statistics:
        """Return a copy of the statistics in effect."""
        with self._state.lock:
            return self._state.live_statistics.statistics(self._state.projection()).copy()

    def last_layer(self) -> LastLayer:
        """Return the last layer in effect; it is solved now unless this or another process has solved it."""
        return self._live_last_layer.current()

    def publish(self) -> None:
        """Solve the last layer and store it, so that other processes need not; `close` stores it if it is solved.

        Otherwise their classifiers solve it after `live_classifier.PATIENCE_SECONDS`.
        """
        self._live_last_layer.publish()

    def classifier(self) -> Classifier:
        """Return a classifier that follows what is taught, by this or another process, up to each prediction."""
        with self._state.lock:
            if self._classifier is None:
                self._classifier = LiveClassifier(
                    self._state, self._live_last_layer, self._threads, self._observations if self._observes else None
                )
            return self._classifier

    def merge(self, *sources: Folder, guard: Optional[float] = None) -> Step:
        """Add what was taught on other devices, from their state folders or from patches that they exported.

        The result is as if everything had been taught on this device. A picture counts once, however often and by
        whatever route it arrives; one that is already here keeps its label; the shipped statistics count once.
        Pictures of another backbone are embedded again from their thumbnails. If `guard` refuses, nothing is added.

        Raises:
            LearningError: no source is given, a source has no state, or a patch is for another backbone.
            BundleError: a patch cannot be read.
            StorageError: a state cannot be read or written.
        """
        if not sources:
            raise LearningError("there is nothing to merge; give the state folders of other devices, or patches")
        size, identity = self._state.live_statistics.embedding_bytes, self._state.identity
        contributions = [
            convert(read_contribution(source), identity, size, self._embed_thumbnail) for source in sources
        ]

        def make_drafts(projection: Projection) -> List[Draft]:
            device = self._state.journal.identity()["device"]
            drafts: List[Draft] = []
            for contribution in contributions:
                so_far = projection.with_rows(operations.hypothetical_rows(drafts, count(-1, -1)))
                drafts += merge_drafts(contribution, so_far, device)
            return drafts

        not_carried = sum(contribution.lost for contribution in contributions)
        return replace(self._record(make_drafts, guard), not_carried=not_carried)

    def export_patch(self, path: Folder) -> Path:
        """Write what was taught to one small file, which `merge` accepts on any device with the same backbone."""
        with self._state.lock:
            return pack_patch(Path(path), self._bundle, self._state.journal)

    def export_bundle(self, path: Folder, frozen: bool = False) -> Path:
        """Write a bundle with the same backbone, and the last layer, statistics and canaries of what was taught.

        With `frozen`, it has no statistics and no guard set: it only classifies.

        Raises:
            LearningError: an adaptation is in effect and the bundle is not frozen. Its statistics would count all
                pictures alike again.
        """
        with self._state.lock:
            projection = self._state.projection()
            if frozen:
                return pack_frozen(Path(path), self._bundle, self.last_layer())
            if projection.adapted:
                raise LearningError(
                    "a bundle that learns cannot contain an adaptation; undo it first, or use: "
                    "edgetl export --format tflite; or export a patch, and adapt again where it is merged"
                )
            live_statistics = self._state.live_statistics
            statistics, names = live_statistics.statistics(projection), live_statistics.names(projection)
            origins = shipped_origins(self._bundle) | taught_origins(projection, self._state.journal)
            return pack_learned(Path(path), self._bundle, self.last_layer(), statistics, names, origins)

    def _embed_thumbnail(self, thumbnail: bytes) -> bytes:
        return self._state.live_statistics.encode(self.classifier().embed(thumbnail))[0]

    def _resolve_label(self, label: str) -> str:
        """A class in effect with exactly this name; otherwise the normalized label, so that no class exists twice."""
        return label if label in self.labels else operations.normalized_label(label)

    def _distinct_label(self, label: str, new_class: bool) -> str:
        label = self._resolve_label(label)
        if not new_class:
            with self._state.lock:
                projection = self._state.projection()
                operations.require_distinct(label, [*projection.labels, *projection.pending.values()])
        return label

    def _draft_teaching(self, image: Union[ImageSource, Source], label: str) -> Draft:
        return operations.teach_image(image, label, self.classifier(), self._state.live_statistics, self._thumbnails)

    def _teach(self, drafts: Sequence[Draft], label: str, guard: Optional[float]) -> Step:
        """Record the drafts; with `guard`, together with pending pictures of the class, or as pending if refused."""
        if guard is None:
            return self._record(lambda projection: operations.require_pictures(drafts, label))
        with self._state.lock:
            pending = [key for key, proposed in self._state.projection().pending.items() if proposed == label]
            accepted = [*drafts, *(Draft(ACCEPT, label, subject=key) for key in pending)]
            step = self._record(lambda projection: operations.require_pictures(accepted, label), guard)
            if step.accepted or not drafts:
                return step
            proposals = [replace(draft, kind=PROPOSE) for draft in drafts]
            return replace(self._record(lambda projection: proposals), accepted=False, effect=step.effect)

    def _record(self, make_drafts: MakeDrafts, guard: Optional[float] = None) -> Step:
        """Append one step to the journal, unless it would cost the known classes more than `guard` points."""
        if guard is None:
            return Step.of(*self._state.append(make_drafts))
        if not 0 <= guard <= 100:
            raise OptionError(f"guard is {guard}; expected the points of accuracy that a step may cost, 0 to 100")
        with self._state.lock:
            drafts = make_drafts(self._state.projection())
            effect = self._predict_effect(drafts)
            if effect.cost_points > guard:
                return replace(Step.of(drafts, [0] * len(drafts)), accepted=False, effect=effect)
            return replace(Step.of(*self._state.append(make_drafts)), effect=effect)

    def _predict_effect(self, drafts: Sequence[Draft]) -> Effect:
        """Estimate the effect of drafts, without recording them."""
        guard, projection = self._guard_set(), self._state.projection()
        if not guard.exists:
            raise LearningError("this bundle has no guard set; build it with validation photos, or teach without guard")
        ids = self._state.live_statistics.add_hypothetical([draft.embedding for draft in drafts])
        return guard.compare(projection, projection.with_rows(operations.hypothetical_rows(drafts, ids)))

    def _guard_set(self) -> Guard:
        if self._guard is None:
            self._guard = Guard(self._bundle, self._state.live_statistics)
        return self._guard
