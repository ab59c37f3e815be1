"""The verbs that list targets, backbones and installed packages."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict
from typing import Any, Optional

import click

from edgetl.cli.console import echo, print_json, print_table
from edgetl.cli.device_options import device_options, reach, require_here
from edgetl.cli.examples import examples
from edgetl.runtime.system import cache_folder


@examples("edgetl targets", "edgetl targets --json")
@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def targets(as_json: bool) -> None:
    """List the boards that a bundle can be built for."""
    from edgetl.targets import list_targets

    known = list_targets()
    if as_json:
        return print_json([asdict(target) for target in known])
    print_table(
        ["target", "board", "interpreter", "threads", "formats"],
        [
            [target.name, target.title, target.interpreter, str(target.threads), ", ".join(target.quantize)]
            for target in known
        ],
    )


@examples("edgetl backbones", "edgetl backbones --json")
@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def backbones(as_json: bool) -> None:
    """List the pretrained backbones and where their weights come from."""
    from edgetl.backbones import list_backbones

    known = list_backbones()
    if as_json:
        return print_json([asdict(spec) for spec in known])
    print_table(
        ["backbone", "input", "embed", "params", "MACs", "top-1", "TPU", "weights"],
        [
            [
                spec.name,
                str(spec.input_sizes[0]),
                str(spec.embedding_size),
                f"{spec.parameters / 1e6:.1f}M",
                f"{spec.macs / 1e6:.0f}M",
                f"{spec.top1:.1f}" if spec.top1 else "",
                "yes" if spec.coral else "no",
                "package" if spec.weights.package else "download" if spec.weights.url else "file",
            ]
            for spec in known
        ],
    )


@examples("edgetl doctor", "edgetl doctor pi@raspberrypi.local")
@click.command()
@click.argument("where", required=False, metavar="[[USER@]HOST[:PORT]]")
@device_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of a table: a list, or one object for a device."
)
def doctor(where: Optional[str], as_json: bool, **options: Any) -> None:
    """List what is installed or missing, here or on a device.

    Each missing package comes with the command that installs it. For a device it reports what edgetl deploy would find,
    and changes nothing there.
    """
    if where is not None:
        return _examine(where, as_json, options)
    require_here(**options)
    from edgetl.runtime.system import list_packages

    found = list_packages()
    if as_json:
        return print_json([asdict(entry) for entry in found])
    print_table(
        ["package", "version", "for", "to install it"],
        [[entry.name, entry.version or "missing", entry.purpose, entry.install] for entry in found],
    )
    home = next(folder for folder in (cache_folder(), *cache_folder().parents) if folder.exists())
    free = shutil.disk_usage(home).free / 2**30
    echo(f"Python {platform.python_version()} on {platform.machine()}, {free:.0f} GiB free at {home}")
    if not any(entry.version for entry in found if entry.extra == "tflite"):
        echo("no TFLite interpreter: pip install 'edgetl[tflite]'")
    elif not any(entry.version for entry in found if entry.name == "tensorflow"):
        echo("this machine can run and teach models; to build them: pip install 'edgetl[host]'")
    else:
        echo("this machine can build, run and teach models")


def _examine(where: str, as_json: bool, options: dict[str, Any]) -> None:
    from edgetl.deployment.provisioning import diagnose

    with reach(where, **options) as transport:
        found = diagnose(transport)
    if as_json:
        return print_json(found.to_dict())
    print_table(["", where, "what to do"], [[entry.name, entry.found, entry.advice] for entry in found.findings])
    verdict = "is ready for edgetl deploy" if found.is_usable else "is not ready for edgetl deploy"
    echo(f"{where} {verdict}; nothing was changed there")
