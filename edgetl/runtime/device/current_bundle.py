"""Hides what is done with the bundle that a device runs: it is taught, measured, and asked what it knows.

`python -m edgetl.runtime` and so a deployment call it; the learning verbs share how a step is told.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from edgetl.errors import InstallError, LearningError
from edgetl.runtime.bench.benchmark import bench
from edgetl.runtime.device.service import pausing_service
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.inference.preprocess import ImageSource
from edgetl.runtime.learning import Learner, Step
from edgetl.runtime.stream.sources import Source

Root = Union[str, "os.PathLike[str]"]


def describe_learned(root: Root) -> Dict[str, Any]:
    """Where the state of the bundle that runs stands, as `Learner.status` has it. Raises InstallError, BundleError."""
    slot = _running(root)
    with Learner(slot.bundle, slot.state) as learner:
        return learner.status().to_dict()


def teach_running(
    root: Root,
    archive: Optional[Path],
    label: str,
    guard: Optional[float] = None,
    thumbnails: bool = False,
    threads: Optional[int] = None,
) -> Dict[str, Any]:
    """Teaches the bundle that runs the pictures of a zip archive, which is removed at the end, in one step.

    Without an archive, those that the guard refused before are tried again. Returns what `teach_pictures` does.
    Raises InstallError where nothing is installed, LearningError, StorageError.
    """
    try:
        slot = _running(root)
        with Learner(slot.bundle, slot.state, threads=threads, thumbnails=thumbnails) as learner:
            return teach_pictures(learner, _unpacked(archive) if archive else None, label, guard)
    finally:
        if archive is not None:
            archive.unlink(missing_ok=True)


def teach_pictures(
    learner: Learner,
    pictures: Optional[Iterator[Union[ImageSource, Source]]],
    label: str,
    guard: Optional[float] = None,
) -> Dict[str, Any]:
    """Teaches pictures in one step, passing over those that cannot be read; what `tell_step` says, and which those are.

    None tries those again that the guard refused before. Raises LearningError, StorageError.
    """
    unreadable: List[str] = []
    try:
        step = learner.teach_many(
            pictures or (),
            label,
            guard=100 if guard is None and pictures is None else guard,
            on_unreadable=lambda error: unreadable.append(str(error)),
        )
    except LearningError as error:
        if not unreadable:
            raise
        raise LearningError(f"{error}: {unreadable[0]}") from error
    return {**tell_step(learner, step), "unreadable": unreadable}


def tell_step(learner: Learner, step: Step) -> Dict[str, Any]:
    """What a step did and costs, as JSON takes it; whoever runs the bundle is given the new last layer first."""
    learner.publish()
    effect = learner.effect(step.id) if step.accepted and step.id else step.effect
    labels = list(learner.last_layer().labels)
    return {**step.to_dict(), "effect": effect and effect.to_dict(), "labels": labels, "state": str(learner.folder)}


def bench_running(root: Root, seconds: float = 10.0, threads: Optional[int] = None) -> Dict[str, Any]:
    """Measures the bundle that runs, with what it was taught, as `bench` does; its service pauses meanwhile.

    Raises InstallError where nothing is installed, or the service does not go on; OptionError, BundleError.
    """
    slot = _running(root)
    with pausing_service(root):
        return bench(slot.bundle, seconds, threads, slot.state if slot.state.is_dir() else None).to_dict()


def _running(root: Root) -> Slot:
    slots = Slots(root)
    if slots.current is None:
        raise InstallError(f"nothing is installed in {slots.root}; deploy a bundle first")
    return slots.current


def _unpacked(archive: Path) -> Iterator[Source]:
    """The pictures of an archive, one after the other, by the names that they have where they came from."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                yield Source(member.comment.decode(), packed.read(member))
    except (zipfile.BadZipFile, OSError) as error:
        raise LearningError(f"{archive} is no archive of pictures ({error}); send it again") from error
