"""Teaches, measures and describes the running bundle of a device."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from edgetl.errors import InstallError, LearningError
from edgetl.runtime.bench import Benchmark, bench
from edgetl.runtime.device.service import pausing_service
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.inference import ImageSource
from edgetl.runtime.learning import Effect, Learner, Status, Step
from edgetl.runtime.stream import Source

Root = Union[str, "os.PathLike[str]"]

RETRY_GUARD_POINTS = 100.0
"""The guard of a retry, unless another is given: every pending picture is accepted."""


@dataclass(frozen=True)
class StepResult:
    """What a learning step did, and what it costs the known classes."""

    step: Step
    effect: Optional[Effect]
    labels: Tuple[str, ...]
    """The labels after the step."""
    state: str
    """The path of the state folder."""

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object: the keys of the step, and those of this class."""
        effect = self.effect.to_dict() if self.effect else None
        return {**self.step.to_dict(), "effect": effect, "labels": list(self.labels), "state": self.state}


@dataclass(frozen=True)
class TeachingResult(StepResult):
    """The result of teaching pictures, some of which may be unreadable."""

    unreadable: Tuple[str, ...]
    """One error message for each picture that was skipped."""

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""
        return {**super().to_dict(), "unreadable": list(self.unreadable)}


def describe_learned(root: Root) -> Status:
    """The learning state of the running bundle. Raises InstallError if nothing is installed, BundleError."""
    slot = _running_slot(root)
    with Learner(slot.bundle, slot.state) as learner:
        return learner.status()


def teach_running(
    root: Root,
    archive: Optional[Path],
    label: str,
    guard: Optional[float] = None,
    thumbnails: bool = False,
    threads: Optional[int] = None,
    new_class: bool = False,
) -> TeachingResult:
    """Teaches the running bundle the pictures of a zip archive in one step, then removes the archive.

    Without an archive, retries the pictures that the guard refused before. `guard`, `thumbnails`, `threads` and
    `new_class` are as for the Learner.
    Raises InstallError if nothing is installed, LearningError, StorageError.
    """
    try:
        slot = _running_slot(root)
        with Learner(slot.bundle, slot.state, threads=threads, thumbnails=thumbnails) as learner:
            return teach_pictures(learner, _unpacked(archive) if archive else None, label, guard, new_class)
    finally:
        if archive is not None:
            archive.unlink(missing_ok=True)


def teach_pictures(
    learner: Learner,
    pictures: Optional[Iterator[Union[ImageSource, Source]]],
    label: str,
    guard: Optional[float] = None,
    new_class: bool = False,
) -> TeachingResult:
    """Teaches pictures in one step and skips those that cannot be read.

    With None for `pictures`, retries those that the guard refused before.
    Raises LearningError if no picture can be read, StorageError.
    """
    unreadable: List[str] = []
    try:
        step = learner.teach_many(
            pictures or (),
            label,
            guard=RETRY_GUARD_POINTS if guard is None and pictures is None else guard,
            on_unreadable=lambda error: unreadable.append(str(error)),
            new_class=new_class,
        )
    except LearningError as error:
        if not unreadable:
            raise
        raise LearningError(f"{error}: {unreadable[0]}") from error
    done = complete_step(learner, step)
    return TeachingResult(done.step, done.effect, done.labels, done.state, tuple(unreadable))


def complete_step(learner: Learner, step: Step) -> StepResult:
    """Publishes the new last layer to the processes that run the bundle, then measures the effect of the step."""
    learner.publish()
    effect = learner.effect(step.id) if step.accepted and step.id else step.effect
    return StepResult(step, effect, learner.last_layer().labels, str(learner.folder))


def bench_running(root: Root, seconds: float = 10.0, threads: Optional[int] = None) -> Benchmark:
    """Measures the running bundle with what it was taught, as `bench` does, while its service pauses.

    Raises InstallError if nothing is installed or the service does not start again; OptionError, BundleError.
    """
    slot = _running_slot(root)
    with pausing_service(root):
        return bench(slot.bundle, seconds, threads, slot.state if slot.state.is_dir() else None)


def _running_slot(root: Root) -> Slot:
    slots = Slots(root)
    if slots.current is None:
        raise InstallError(f"nothing is installed in {slots.root}; deploy a bundle first")
    return slots.current


def _unpacked(archive: Path) -> Iterator[Source]:
    """The pictures of an archive one by one, under the names that they had on the host."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                yield Source(member.comment.decode("utf-8", "surrogateescape"), packed.read(member))
    except (zipfile.BadZipFile, OSError) as error:
        raise LearningError(f"cannot read the archive of pictures {archive}: {error}; send it again") from error
