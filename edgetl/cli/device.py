"""The verbs of the device: run a bundle on images."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Optional

import click

from edgetl.cli import print_json
from edgetl.cli.learning import open_classifier, state_option
from edgetl.errors import ImageError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--source",
    required=True,
    metavar="FILE|FOLDER|-",
    help="An image, a folder of images, or - to read paths from standard input, one a line.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Interpreter threads; the target's by default.")
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for every image.")
def run(bundle: Path, source: str, threads: Optional[int], state: Optional[Path], as_json: bool) -> None:
    """Classify images with BUNDLE, one line each; an image that cannot be read is named and passed over."""
    from edgetl.runtime.sources import iterate

    signal.signal(signal.SIGTERM, _stop)
    classifier = open_classifier(bundle, state, threads)
    unreadable = 0
    for name, image in iterate(source):
        try:
            prediction = classifier.predict(image)
        except ImageError as error:
            unreadable += 1
            if as_json:
                print_json({"source": name, "error": str(error)})
            else:
                click.echo(f"{name}: {error}", err=True)
            continue
        if as_json:
            print_json(_to_json(name, prediction))
        else:
            unusual = "  (unlike anything it was taught)" if prediction.is_novel else ""
            click.echo(f"{name}: {prediction.label} {prediction.probability:.1%}{unusual}")
    if unreadable:
        click.echo(f"{unreadable} images could not be read", err=True)


def _to_json(name: str, prediction: Any) -> dict[str, Any]:
    return {
        "source": name,
        "label": prediction.label,
        "probability": round(float(prediction.probability), 6),
        "novelty": round(float(prediction.novelty), 6),
        "is_novel": bool(prediction.is_novel),
        "ms": round(prediction.milliseconds["total"], 3),
    }


def _stop(*_: object) -> None:
    """SIGTERM ends the run after the image in hand, as a service manager expects: with code 0."""
    raise SystemExit(0)
