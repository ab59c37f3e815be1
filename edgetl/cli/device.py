"""The verbs of the device: run a bundle on images, and measure how fast it does that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from edgetl.cli.learning import open_classifier, state_option
from edgetl.cli.showing import Display, open_display
from edgetl.cli.stopping import GracefulStop
from edgetl.errors import ImageError, OptionError

if TYPE_CHECKING:
    from edgetl.runtime import Classifier
    from edgetl.runtime.hooks import Hooks
    from edgetl.runtime.sources import Source

NOTHING_READ = 1
"""Exit code where there were images, and none of them could be read."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--source",
    required=True,
    metavar="FILE|FOLDER|camera|-",
    help="An image, a folder of images, camera (or camera:X: a number, a device, a video file, rtsp://...), "
    "or - to read paths from standard input, one a line.",
)
@click.option("--watch", "watches", is_flag=True, help="Wait for further images in the folder, until stopped.")
@click.option("--only-new", is_flag=True, help="With --watch: leave out the images that are there already.")
@click.option(
    "--on-label",
    "commands",
    nargs=2,
    multiple=True,
    metavar="LABEL COMMAND",
    help="Run COMMAND, without a shell, when an image is a LABEL; may be given several times. {source} in it is the "
    "image; EDGETL_LABEL, EDGETL_SOURCE, EDGETL_PROBABILITY and EDGETL_IS_NOVEL are in its environment. "
    "One at a time, for 30 seconds at most; meanwhile a camera's images of LABEL are passed over, files wait.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Interpreter threads; the machine's cores by default.")
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for every image.")
def run(
    bundle: Path,
    source: str,
    watches: bool,
    only_new: bool,
    commands: Sequence[tuple[str, str]],
    threads: Optional[int],
    state: Optional[Path],
    as_json: bool,
) -> None:
    """Classify images with BUNDLE, one line each; an image that cannot be read is named and passed over.

    In a terminal a live table follows the latest image. Ends with code 0 where at least one image was classified or
    none came, and 1 where not one of them could be read. SIGTERM ends it after the image in hand, with code 0.
    """
    from edgetl.runtime.camera import is_camera
    from edgetl.runtime.hooks import Hooks

    if watches and not Path(source).is_dir():
        raise OptionError(f"--watch wants an existing folder as --source, received '{source}'")
    if only_new and not watches:
        raise OptionError("--only-new goes with --watch")
    with GracefulStop() as stop:
        hooks = Hooks(commands, on_failure=_warn, skip_while_busy=is_camera(source))
        classifier = open_classifier(bundle, state, threads)
        _tell_beforehand(classifier, hooks)
        with hooks, open_display(as_json, is_camera(source)) as display:
            read, unread = _classify(classifier, _open_source(source, watches, only_new), display, hooks, stop)
    if unread:
        _warn(f"{unread} image{'s' if unread > 1 else ''} could not be read")
    if unread and not read:
        raise SystemExit(NOTHING_READ)


def _classify(
    classifier: Classifier, images: Iterator[Source], display: Display, hooks: Hooks, stop: GracefulStop
) -> tuple[int, int]:
    """How many images were classified, and how many could not be read."""
    read = unread = 0
    for name, image in images:
        with stop.step():
            try:
                prediction = classifier.predict(image)
            except ImageError as error:
                unread += 1
                display.complain(name, error)
                continue
            read += 1
            display.show(name, prediction)
            hooks.fire(name, prediction)
    return read, unread


def _open_source(source: str, watches: bool, only_new: bool) -> Iterator[Source]:
    from edgetl.runtime import camera, iterate, watch

    if watches:
        return watch(source, only_new)
    return camera.stream(source) if camera.is_camera(source) else iterate(source)


def _tell_beforehand(classifier: Classifier, hooks: Hooks) -> None:
    if classifier.note:
        _warn(classifier.note)
    for label in sorted(set(hooks.labels) - set(classifier.labels)):
        _warn(f"no class is called '{label}' so far; there are {', '.join(classifier.labels)}")


def _warn(line: str) -> None:
    click.echo(f"edgetl: {line}", err=True)
