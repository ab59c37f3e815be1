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
        bundle: a bundle; what it was taught applies, including what is taught while this runs.
        source: a file, a folder, "camera" or "camera:X", or "-" for standard input.
        watch: wait for further images in the folder, without end.
        only_new: with `watch`, leave out the images that are there already.
        threads: of the interpreter; the machine's cores for None.
        state: the folder of what was taught; NAME.state beside the bundle for None.

    An image that cannot be read is yielded with its ImageError in place of a prediction, and the others follow.

    Raises:
        BundleError: it is not a bundle that edgetl can use.
        DataError: there is no such source, or nothing in it.
        OptionError: the source cannot be used with `watch` or `only_new`.
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
    """A classifier that follows the state of the bundle; if there is no state, the classifier as shipped.

    With `observe`, its predictions are recorded for drift detection; a state folder that was named is created for that.
    """
    if not has_state(bundle, state):
        return Classifier(bundle, threads=threads)
    if observe and state is not None:
        with suppress(OSError):  # classify from a read-only disk too
            Path(state).mkdir(parents=True, exist_ok=True)
    from edgetl.runtime.learning.learner import Learner

    return Learner(bundle, state=state, threads=threads, observe=observe).classifier()


def has_state(bundle: StrPath, state: Optional[StrPath] = None) -> bool:
    """Whether a state folder was named, or the default one exists."""
    return state is not None or state_folder(bundle).is_dir()


def open_source(
    source: str, watch: bool = False, only_new: bool = False, on_look: Optional[Callable[[], object]] = None
) -> Iterator[Source]:
    """The images of a source, as `run` takes it; `on_look` is called after each scan of a watched folder.

    Raises:
        DataError: there is no such source, or nothing in it.
        OptionError: the source cannot be used with `watch` or `only_new`.
    """
    check_source(source, watch, only_new)
    if watch:
        return watch_folder(source, only_new, on_look=on_look)
    return read_camera(source) if is_camera(source) else iterate(source)


def check_source(source: str, watch: bool, only_new: bool) -> None:
    """Raise OptionError if the source cannot be used with `watch` or `only_new`; nothing is opened."""
    if watch and not Path(source).is_dir():
        raise OptionError(f"--watch needs an existing folder as --source, received '{source}'")
    if only_new and not watch:
        raise OptionError("--only-new needs --watch")
