"""The verbs check and compile, for the Edge TPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from edgetl.cli import print_json
from edgetl.cli.console import print_table, show_progress
from edgetl.cli.examples import examples
from edgetl.errors import OptionError

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
    from edgetl.conversion.edgetpu import Limits, analyse, verify
    from edgetl.targets import load_target

    board = load_target(target)
    if not board.edgetpu:
        raise OptionError(f"{target} has no Edge TPU; choose coral or coral-dev-board")
    limits = Limits.of(board)
    content, twin = _read_pair(model, compiled)
    if twin is not None:
        proof = verify(content, twin, limits)
        if as_json:
            print_json(proof.to_json())
        else:
            confirmation = f"{compiled or 'the Edge TPU model'} was compiled from the model in {model}"
            click.echo("\n".join(proof.reasons) or confirmation)
        raise SystemExit(0 if proof.match else FAILED)
    analysis = analyse(content, limits)
    if as_json:
        print_json(analysis.to_json())
    else:
        _print_analysis(analysis)
        click.echo(f"runtime {analysis.min_runtime_version} or newer; {target} has {limits.runtime_version}")
    if fail_on == "cpu" and (analysis.refused or analysis.cpu_ops):
        raise SystemExit(FAILED)


def _print_analysis(analysis: Analysis) -> None:
    print_table(
        ["#", "operator", "runs on", "why", "how to avoid it"],
        [[str(op.index), op.op, op.placed.upper(), op.reason, op.fix] for op in analysis.ops],
    )
    if analysis.refused:
        click.echo(f"the compiler would reject it: {analysis.refused}; {analysis.refused_fix}")
    parameters = analysis.parameter_bytes
    click.echo(
        f"parameters {parameters.cached:,} bytes on chip, {parameters.streamed:,} streamed "
        "(estimated; within 2 percent for the convolutional models that were measured)"
    )
    click.echo(f"activations {analysis.activation_bytes:,} bytes; the chip holds {analysis.activation_limit_bytes:,}")
    click.echo("\n".join(analysis.notes), nl=bool(analysis.notes))


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
    click.echo(f"{bundle} now contains a model for the Edge TPU, compiled with version {made.log.version}")
    click.echo(f"parameters {compiled.cached_bytes:,} bytes on chip, {compiled.streamed_bytes:,} streamed")
    click.echo("\n".join(made.differences) or "every operator was placed as predicted")


def _read_pair(model: Path, compiled: Optional[Path]) -> tuple[bytes, Optional[bytes]]:
    """A model and its compiled form to verify: `compiled`, or the one in the bundle, if it has one."""
    from edgetl.bundle import EDGETPU_MODEL, MODEL, open_bundle

    if model.suffix != ".edgetl":
        return _read(model), None if compiled is None else _read(compiled)
    bundle = open_bundle(model)
    if compiled is not None:
        return bundle.read(MODEL), _read(compiled)
    return bundle.read(MODEL), bundle.read(EDGETPU_MODEL) if EDGETPU_MODEL in bundle else None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise OptionError(f"no such file: {path}; expected a .tflite file")
    return path.read_bytes()
