"""The verbs check and compile, for the Edge TPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from edgetl.cli.console import echo, print_json, print_table, show_progress
from edgetl.cli.examples import examples

if TYPE_CHECKING:
    from edgetl.conversion.edgetpu import Analysis

FAILED = 1
"""Exit code if the model does not pass the check."""


@examples("edgetl check model.tflite --fail-on cpu", "edgetl check leaves.edgetl")
@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="coral", show_default=True, help="The board with the Edge TPU.")
@click.option("--compiled", type=click.Path(path_type=Path), help="Verify that this file was compiled from MODEL.")
@click.option("--fail-on", type=click.Choice(["cpu"]), help="Exit with code 1 if an operator would run on the CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def check(model: Path, target: str, compiled: Optional[Path], fail_on: Optional[str], as_json: bool) -> None:
    """Predict where the Edge TPU compiler will place each operator.

    MODEL is a .tflite file; each operator is listed with the reason. If MODEL is a bundle with a compiled model, verify
    instead that it was compiled from the bundle's own model.
    """
    from edgetl.conversion.edgetpu import Limits, Verification
    from edgetl.pipeline.edgetpu import check as check_model
    from edgetl.targets import load_target

    found = check_model(model, target, compiled)
    if isinstance(found, Verification):
        if as_json:
            print_json(found.to_json())
        else:
            confirmation = f"{compiled or 'the Edge TPU model'} was compiled from the model in {model}"
            echo(*(found.reasons or [confirmation]))
        raise SystemExit(0 if found.match else FAILED)
    if as_json:
        print_json(found.to_json())
    else:
        _print_analysis(found)
        version = Limits.of(load_target(target)).runtime_version
        echo(f"runtime {found.min_runtime_version} or newer; {target} has {version}")
    if fail_on == "cpu" and (found.refused or found.cpu_ops):
        raise SystemExit(FAILED)


def _print_analysis(analysis: Analysis) -> None:
    print_table(
        ["#", "operator", "runs on", "why", "how to avoid it"],
        [[str(op.index), op.op, op.placed.upper(), op.reason, op.fix] for op in analysis.ops],
    )
    if analysis.refused:
        echo(f"the compiler would reject it: {analysis.refused}; {analysis.refused_fix}")
    parameters = analysis.parameter_bytes
    echo(
        f"parameters {parameters.cached:,} bytes on chip, {parameters.streamed:,} streamed "
        "(estimated; within 2 percent for the convolutional models that were measured)"
    )
    echo(f"activations {analysis.activation_bytes:,} bytes; the chip holds {analysis.activation_limit_bytes:,}")
    echo(*analysis.notes)


@examples("edgetl compile leaves.edgetl")
@click.command("compile")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
def compile_(bundle: Path, as_json: bool) -> None:
    """Compile BUNDLE for the Edge TPU of its board, in place.

    Google's compiler is run directly or in its container. With Docker or Podman, the compiler's container is built
    first if necessary, which downloads the compiler from Google under Google's terms.
    """
    from edgetl.pipeline import compile_bundle

    with show_progress() as progress:
        made = compile_bundle(bundle, progress)
    compiled = made.compiled
    if as_json:
        described = compiled.to_json()["edgetpu"]
        answer = {**described, "cpu_ops": compiled.cpu_ops, "differences": list(made.differences)}
        return print_json({"bundle": str(bundle), "edgetpu": "compiled", **answer})
    echo(f"{bundle} now contains a model for the Edge TPU, compiled with version {made.log.version}")
    echo(f"parameters {compiled.cached_bytes:,} bytes on chip, {compiled.streamed_bytes:,} streamed")
    echo(*(made.differences or ["every operator was placed as predicted"]))
