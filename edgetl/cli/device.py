"""The verbs run and bench: classify images with a bundle, and measure its speed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgetl.cli.console import echo, print_json, print_table
from edgetl.cli.device_options import BUNDLE_OR_DEVICE, device_options, is_bundle, reach, require_here
from edgetl.cli.examples import examples
from edgetl.cli.learning import LABEL, require_no_state, state_option
from edgetl.cli.run_display import Display, open_display
from edgetl.cli.signals import GracefulStop
from edgetl.errors import ImageError, OptionError

if TYPE_CHECKING:
    from edgetl.runtime import Classifier
    from edgetl.runtime.stream import Hooks, PictureInHand, Source

NOTHING_READ = 1
"""Exit code if there were images and none of them could be read."""


@examples(
    "edgetl run leaves.edgetl --source photo.jpg",
    "edgetl run leaves.edgetl --source camera --changes --json",
)
@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--source",
    required=True,
    metavar="FILE|FOLDER|camera|-",
    help="An image, a folder of images, camera (or camera:X: a number, a device, a video file, rtsp://...), "
    "or - for standard input: one path per line, an image, or a stream of JPEGs, e.g. of rpicam-vid --codec mjpeg.",
)
@click.option("--watch", "watches", is_flag=True, help="Also classify new images in the folder, until stopped.")
@click.option("--only-new", is_flag=True, help="With --watch: leave out the images that already exist.")
@click.option(
    "--on-label",
    "commands",
    nargs=2,
    type=(LABEL, str),
    multiple=True,
    metavar="LABEL COMMAND",
    help="Run COMMAND, without a shell, when an image is classified as LABEL; may be given several times. {source} is "
    "replaced by the image; EDGETL_LABEL, EDGETL_SOURCE, EDGETL_PROBABILITY and EDGETL_IS_NOVEL are in its "
    "environment. One at a time, for 30 seconds at most; meanwhile files wait, and a camera's images of LABEL do not "
    "run it. An image that is unlike every class runs nothing.",
)
@click.option("--on-novel", is_flag=True, help="With --on-label: also for images that are unlike every class.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the interpreter.  [default: one per core]")
@click.option(
    "--changes",
    "only_changes",
    is_flag=True,
    help="Print an image only if its label or its novelty differs from the one before, at most once a second; and a "
    "summary every hour.",
)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line for each image.")
def run(
    bundle: Path,
    source: str,
    watches: bool,
    only_new: bool,
    commands: Sequence[tuple[str, str]],
    on_novel: bool,
    threads: Optional[int],
    only_changes: bool,
    state: Optional[Path],
    as_json: bool,
) -> None:
    """Classify images with BUNDLE, one line each.

    An image that cannot be read is reported and skipped. In a terminal, a table shows the latest image. Exits with code
    1 if none of the images could be read, else with 0. SIGTERM stops it after the current image, with code 0.
    """
    from edgetl.runtime.learning import check_source, has_state, open_classifier, open_source, state_folder
    from edgetl.runtime.stream import Hooks, PictureInHand, is_camera
    from edgetl.runtime.system import notify_alive, notify_ready

    check_source(source, watches, only_new)
    with GracefulStop() as stop:
        hooks = Hooks(commands, on_failure=_warn, skip_while_busy=is_camera(source), on_novel=on_novel)
        classifier = open_classifier(bundle, state, threads, observe=True)
        _warn_beforehand(classifier, hooks)
        in_hand = PictureInHand((state or state_folder(bundle)) if has_state(bundle, state) else None)
        notify_ready()
        with hooks, open_display(as_json, is_camera(source), only_changes) as display:
            images = open_source(source, watches, only_new, on_look=notify_alive)
            read, unread = _classify(classifier, images, display, hooks, stop, in_hand)
    if unread:
        _warn(f"{unread} image{'s' if unread > 1 else ''} could not be read")
    if unread and not read:
        raise SystemExit(NOTHING_READ)


@examples("edgetl bench leaves.edgetl", "edgetl bench pi@raspberrypi.local")
@click.command()
@click.argument("where", required=False, metavar=f"[{BUNDLE_OR_DEVICE}]")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time for latency and throughput; start-up and memory take a few seconds more.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the interpreter.  [default: one per core]")
@state_option
@click.option("--store", is_flag=True, help="Store the latency for the target; later builds estimate from it.")
@click.option(
    "--import",
    "imported",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Store the output of --json from a board, instead of measuring here.",
)
@click.option(
    "--target", "target_name", metavar="NAME", help="Target that the latency is stored for.  [default: the bundle's]"
)
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def bench(
    where: Optional[str],
    seconds: float,
    threads: Optional[int],
    state: Optional[Path],
    store: bool,
    imported: Optional[Path],
    target_name: Optional[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the speed and the memory of a bundle.

    It measures latency, throughput, start-up, memory and, if available, temperature and throttling. A bundle is
    measured on this machine. On a device, the running bundle is measured while its service pauses, and the latency is
    stored here, so that later builds estimate from your own board. A device is any argument that is not a file and does
    not end in .edgetl. If it cannot be reached from here, run edgetl bench BUNDLE --json > FILE there, and edgetl bench
    --import FILE here.
    """
    if (where is None) == (imported is None):
        raise OptionError("give a BUNDLE or a device to measure, or --import FILE to store a measurement")
    is_remote = where is not None and not is_bundle(where)
    if not is_remote:
        require_here(**options)
    if imported is not None:
        measured = _read_measured(imported)
    elif is_remote:
        measured = _measure_device(str(where), seconds, threads, state, options)
    else:
        measured = _measure(Path(str(where)), seconds, threads, state)
    if as_json:
        print_json(measured)
    elif imported is None:
        print_table(["", measured["bundle"]], list(_rows(measured)))
    if store or imported is not None or is_remote:
        echo(_store(measured, target_name), err=as_json)


def _measure_device(
    where: str, seconds: float, threads: Optional[int], state: Optional[Path], options: dict[str, Any]
) -> dict[str, Any]:
    from edgetl.deployment import bench as measure_device

    require_no_state(state)
    with reach(where, **options) as transport:
        measured = measure_device(transport, seconds, threads)
    if measured.note:
        _warn(f"{where}: {measured.note}")
    return {"where": where, **measured.to_dict()}


def _measure(bundle: Path, seconds: float, threads: Optional[int], state: Optional[Path]) -> dict[str, Any]:
    from edgetl.runtime.bench import bench as measure
    from edgetl.runtime.learning import has_state, state_folder

    found = state if state is not None or not has_state(bundle, None) else state_folder(bundle)
    measured = measure(bundle, seconds, threads, found).to_dict()
    if measured["note"]:
        _warn(measured["note"])
    return measured


def _read_measured(path: Path) -> dict[str, Any]:
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OptionError(f"{path} is not JSON: expected the output of edgetl bench --json ({error})") from error
    if not isinstance(measured, dict):
        raise OptionError(f"{path} contains no JSON object: expected the output of edgetl bench --json")
    return measured


def _store(measured: dict[str, Any], target_name: Optional[str]) -> str:
    """Store the latency for a target; return a line that says so."""
    from edgetl.targets import load_target, store_profile

    target = load_target(target_name or str(measured.get("target")))
    path = store_profile(measured, target)
    latency = f"{measured['frame_ms']['p50']:.3g} ms with {measured['model']} on {measured['machine']}"
    return f"stored for {target.name} ({target.title}): {latency}, in {path}"


def _rows(measured: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The measurements as rows of a table."""
    for name, key in (("frame to answer", "frame_ms"), ("JPEG to answer", "jpeg_ms")):
        timing = measured[key]
        slower = f"95% under {timing['p95']:.3g}, 99% under {timing['p99']:.3g}; {timing['runs']} runs"
        yield name, f"{timing['p50']:.3g} ms  ({slower})"
    yield "throughput", f"{measured['images_per_second']:.1f} JPEGs per second"
    above = f"{measured['startup_above_bare_ms']:+.0f} ms compared to the bare interpreter"
    yield "start to first answer", f"{measured['startup_ms']:.0f} ms  ({above})"
    above = f"{measured['peak_above_bare_bytes'] / 2**20:+.1f} MiB compared to the bare interpreter"
    yield "peak memory", f"{measured['peak_bytes'] / 2**20:.1f} MiB  ({above})"
    before, after = measured["celsius_before"], measured["celsius_after"]
    if before is not None and after is not None:
        yield "temperature", f"{before:.0f} °C before, {after:.0f} °C after"
    if measured["throttling"] is not None:
        yield "throttling", ", ".join(measured["throttling"]) or "none"
    threads = f"{measured['threads']} thread{'s' if measured['threads'] > 1 else ''}"
    yield "interpreter", f"{measured['interpreter']} on {measured['accelerator']}, {threads}"
    yield "machine", f"{measured['machine']}, {measured['architecture']}"


def _classify(
    classifier: Classifier,
    images: Iterator[Source],
    display: Display,
    hooks: Hooks,
    stop: GracefulStop,
    in_hand: PictureInHand,
) -> tuple[int, int]:
    """Classify images; return how many were classified, and how many could not be read."""
    from edgetl.runtime.stream import CameraFrame
    from edgetl.runtime.system import notify_alive

    read = unread = 0
    note = classifier.note
    for source in images:
        name, image = source
        with stop.step():
            try:
                with in_hand.reading(image):
                    prediction = classifier.predict(image)
            except ImageError as error:
                unread += 1
                display.report_error(name, error)
                if isinstance(image, Path):  # damaged files come to an end; a stream of them is a failed camera
                    notify_alive()
                continue
            read += 1
            notify_alive()
            display.show(name, prediction, source.age_ms() if isinstance(source, CameraFrame) else None)
            hooks.fire(name, prediction)
        if classifier.note != note:
            note = classifier.note
            _warn(note or "the Edge TPU works again")
    return read, unread


def _warn_beforehand(classifier: Classifier, hooks: Hooks) -> None:
    if classifier.note:
        _warn(classifier.note)
    for label in sorted(set(hooks.labels) - set(classifier.labels)):
        _warn(f"there is no class '{label}' yet; the classes are {', '.join(classifier.labels)}")


def _warn(line: str) -> None:
    echo(f"edgetl: {line}", err=True)
