"""The verbs evaluate, export and show, which use a bundle on the host."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgetl.bundle import REPORT
from edgetl.cli.console import echo, print_json, print_table, show_progress
from edgetl.cli.examples import examples
from edgetl.cli.learning import open_learner, state_option
from edgetl.errors import BundleError, OptionError

if TYPE_CHECKING:
    from edgetl.data import Listing


@examples("edgetl evaluate leaves.edgetl --data more-photos", "edgetl evaluate leaves.edgetl --data test.csv --json")
@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled photos: a subfolder per class, or a CSV file with path,label. Only test/ of a folder that has one.",
)
@click.option("--leave-out-unknown", is_flag=True, help="Leave out photos of classes that the bundle does not know.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the interpreter.  [default: one per core]")
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def evaluate(
    bundle: Path, data: Path, leave_out_unknown: bool, threads: Optional[int], state: Optional[Path], as_json: bool
) -> None:
    """Measure BUNDLE, with what it was taught, on labelled photos."""
    from edgetl import evaluation
    from edgetl.data import list_photos
    from edgetl.runtime.learning import open_classifier

    listing = list_photos(data)
    for finding in listing.findings:
        echo(f"note: {finding.detail}", err=True)
    photos = [photo for photo in listing.photos if photo.split == "test"] or list(listing.photos)
    classifier = open_classifier(bundle, state, threads)
    if note := _note_on_known_photos(bundle, listing):
        echo(note, err=True)
    with show_progress() as progress:
        result = evaluation.evaluate(
            classifier,
            [photo.path for photo in photos],
            [photo.label for photo in photos],
            root=data if data.is_dir() else data.parent,
            leave_out_unknown=leave_out_unknown,
            progress=progress,
        )
    if as_json:
        print_json(result.summary())
    else:
        evaluation.render_evaluation(result)


def _note_on_known_photos(bundle: Path, listing: Listing) -> str:
    """A note if these are probably the photos that the bundle was built from: as many, of the same classes."""
    from edgetl.bundle import open_bundle
    from edgetl.evaluation import Report

    opened, proof = open_bundle(bundle), None
    with contextlib.suppress(BundleError, UnicodeDecodeError):  # without the report, there is just no note
        proof = Report.from_json(opened.read(REPORT).decode())
    classes = {photo.label for photo in listing.photos}
    is_split = any(photo.split for photo in listing.photos)
    if is_split or proof is None or proof.data is None or proof.data.photos != len(listing.photos):
        return ""
    if classes != proof.data.counts.keys():
        return ""
    return (
        f"note: the bundle was built from as many photos of the same classes; if they are the same photos, it was "
        f"trained on most of them. Accuracy on its {proof.evaluation.n} test photos: {proof.summary.accuracy.value:.1%}"
    )


@examples("edgetl export leaves.edgetl", "edgetl export leaves.edgetl --format patch -o greenhouse.patch")
@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["tflite", "bundle", "patch"]),
    default="tflite",
    help="A classifier for any TFLite client, a bundle with what was taught, or only what was taught.",
)
@click.option("--edgetpu", is_flag=True, help="Export the classifier whose backbone runs on the Edge TPU.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write, or a folder for it.  [default: NAME and the format]",
)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
def export(
    bundle: Path, form: str, edgetpu: bool, output: Optional[Path], state: Optional[Path], as_json: bool
) -> None:
    """Export BUNDLE, with what it was taught, as one file.

    tflite: a classifier from pixels to probabilities, with its labels. bundle: the same backbone with the current last
    layer and statistics. patch: a few kilobytes that edgetl merge adds on any device with the same backbone.
    """
    from edgetl.runtime.learning import has_state

    if edgetpu and form != "tflite":
        raise OptionError(f"--edgetpu is only for --format tflite; a {form} works on CPU and Edge TPU alike")
    if output is not None and output.exists() and output.samefile(bundle):
        raise OptionError(f"{output} is the bundle itself; choose another file with -o")
    if output is not None and output.is_dir():
        output = output / _default_name(bundle, form, edgetpu)
    if has_state(bundle, state):
        path = _export_taught(bundle, form, edgetpu, output, state)
    else:
        path = _export(bundle, form, edgetpu, output)
    if as_json:
        print_json({"output": str(path), "format": form, "bytes": path.stat().st_size})
    else:
        echo(f"{path}  ({path.stat().st_size / 1e6:.3g} MB)")


def _default_name(bundle: Path, form: str, edgetpu: bool) -> str:
    endings = {"bundle": "-taught.edgetl", "patch": ".patch", "tflite": "_edgetpu.tflite" if edgetpu else ".tflite"}
    return f"{bundle.stem}{endings[form]}"


def _export(bundle: Path, form: str, edgetpu: bool, output: Optional[Path]) -> Path:
    from edgetl.conversion import export as export_bundle

    if form != "tflite":
        raise OptionError(f"nothing was taught to {bundle}: there is no {form} to export; teach it first: edgetl teach")
    return export_bundle(bundle, output, edgetpu)


def _export_taught(bundle: Path, form: str, edgetpu: bool, output: Optional[Path], state: Optional[Path]) -> Path:
    with open_learner(bundle, state) as learner, tempfile.TemporaryDirectory() as scratch:
        if form == "patch":
            return learner.export_patch(output or Path(_default_name(bundle, form, edgetpu)))
        if form == "bundle":
            return learner.export_bundle(output or Path(_default_name(bundle, form, edgetpu)))
        return _export(learner.export_bundle(Path(scratch, bundle.name), frozen=True), form, edgetpu, output)


@examples("edgetl show leaves.edgetl", "edgetl show model.tflite --json")
@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def show(file: Path, as_json: bool) -> None:
    """Describe a bundle or a .tflite file."""
    from edgetl.conversion.file_description import show as describe_file

    described = describe_file(file)
    if as_json:
        return print_json([described])
    known = {key: value for key, value in described.items() if value not in (None, [], {})}
    print_table(["", str(file)], [[key, _lines(value)] for key, value in known.items()])


def _lines(value: Any) -> list[str]:
    """A value of a description, as the lines of a table cell."""
    if isinstance(value, dict):
        return [f"{key}: {line}" for key, item in value.items() for line in _lines(item)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [", ".join(f"{key} {_line(item)}" for key, item in entry.items()) for entry in value]
    return [_line(value)]


def _line(value: Any) -> str:
    """A value within a description, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_line(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
