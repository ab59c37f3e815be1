"""Classifies the images of a source with a bundle and what it was taught."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterator, Optional, Tuple, Union

from edgetl.errors import ImageError, OptionError
from edgetl.runtime.inference.classifier import Classifier, Prediction
from edgetl.runtime.learning.state import state_folder
from edgetl.runtime.stream import Source, is_camera, iterate, read_camera
from edgetl.runtime.stream import watch as watch_folder

StrPath = Union[str, "os.PathLike[str]"]


def run(
    bundle: StrPath,
    source: str,
    *,
    watch: bool = False,
    only_new: bool = False,
    threads: Optional[int] = None,
    state: Optional[StrPath] = None,
) -> Iterator[Tuple[str, Union[Prediction, ImageError]]]:
    """Classify the images of a source one after the other; yields the name of each with its prediction.

    Args:
        bundle: a bundle; what it was taught is used, and followed while it runs.
        source: a file, a folder, "camera" or "camera:X", or "-" for standard input.
        watch: wait for further images in the folder, without end.
        only_new: with `watch`, leave out the images that are there already.
        threads: of the interpreter; the machine's cores for None.
        state: the folder of what was taught; NAME.state beside the bundle for None.

    An image that cannot be read is yielded with its ImageError in place of a prediction, and the others follow.

    Raises:
        BundleError: it is not a bundle that edgetl can use.
        DataError: there is no such source, or nothing in it.
        OptionError: `watch` or `only_new` do not go with the source.
    """
    images = open_source(source, watch, only_new)
    classifier = open_classifier(bundle, state, threads, observe=True)
    for name, image in images:
        try:
            outcome: Union[Prediction, ImageError] = classifier.predict(image)
        except ImageError as error:
            outcome = error
        yield name, outcome


def open_classifier(
    bundle: StrPath, state: Optional[StrPath] = None, threads: Optional[int] = None, observe: bool = False
) -> Classifier:
    """A classifier that follows what was taught, where there is such a state; else the shipped one.

    With `observe`, what it predicts counts for the state's drift; a state that was named is created for that.
    """
    if not has_state(bundle, state):
        return Classifier(bundle, threads=threads)
    if observe and state is not None:
        with suppress(OSError):  # a read-only disk is no reason not to classify
            Path(state).mkdir(parents=True, exist_ok=True)
    from edgetl.runtime.learning.learner import Learner

    return Learner(bundle, state=state, threads=threads, observe=observe).classifier()


def has_state(bundle: StrPath, state: Optional[StrPath] = None) -> bool:
    """Whether a state was named, or there is one where it is kept by default."""
    return state is not None or state_folder(bundle).is_dir()


def open_source(
    source: str, watch: bool = False, only_new: bool = False, on_look: Optional[Callable[[], object]] = None
) -> Iterator[Source]:
    """The images of a source, as `run` takes it; `on_look` is called each time that a watched folder is looked at.

    Raises:
        DataError: there is no such source, or nothing in it.
        OptionError: `watch` or `only_new` do not go with the source.
    """
    check_source(source, watch, only_new)
    if watch:
        return watch_folder(source, only_new, on_look=on_look)
    return read_camera(source) if is_camera(source) else iterate(source)


def check_source(source: str, watch: bool, only_new: bool) -> None:
    """Raise OptionError where `watch` or `only_new` do not go with the source; nothing is opened."""
    if watch and not Path(source).is_dir():
        raise OptionError(f"--watch needs an existing folder as --source, received '{source}'")
    if only_new and not watch:
        raise OptionError("--only-new needs --watch")
