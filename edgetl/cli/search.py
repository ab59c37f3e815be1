"""The verb search: finds the model to build."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from edgetl.cli.build_output import OUTPUT_HELP, budget_options, name_and_folder, print_build, take_budget
from edgetl.cli.console import echo, print_json, show_progress
from edgetl.cli.examples import examples
from edgetl.cli.signals import tidy_when_terminated
from edgetl.errors import OptionError


@examples(
    "edgetl search --data photos --target rpi4 --max-latency-ms 50",
    "edgetl search --data photos --time 2h --no-build",
)
@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with a subfolder per class, or a CSV file with path,label.",
)
@click.option("--target", default="generic", show_default=True, help="The board; list them with `edgetl targets`.")
@click.option("--name", help="Name of the bundle.  [default: the data folder's name]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("."),
    show_default=True,
    help=OUTPUT_HELP,
)
@budget_options
@click.option(
    "--backbone", "backbones", multiple=True, help="Try only this backbone; may be given several times.  [default: all]"
)
@click.option(
    "--input-size",
    "input_sizes",
    type=int,
    multiple=True,
    help="Input size to try, in pixels; may be given several times.  [default: 96, 128, 160, 192, 224]",
)
@click.option(
    "--epochs",
    type=int,
    multiple=True,
    help="Length of fine-tuning to try, in ascending order; may be given several times.  [default: 3, 10]",
)
@click.option(
    "--prune",
    type=float,
    multiple=True,
    metavar="SHARE",
    help="Also try the best model with this share of its multiply-accumulates pruned.  [default: 0.5]",
)
@click.option("--no-prune", is_flag=True, help="Try no pruned model.")
@click.option(
    "--weights", type=click.Path(path_type=Path, file_okay=False), help="Folder of weights files, like EDGETL_WEIGHTS."
)
@click.option("--exclude-bad", is_flag=True, help="Leave out photos that fail the checks.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the split and the training.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read photos.  [default: one per core]")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Run the trials on this Ray cluster: HOST:PORT, or auto for the one that runs here. All its machines must "
    "have the same edgetl, and the photos and weights at the same path.",
)
@click.option("--build/--no-build", "bundle", default=True, help="Build the chosen model.  [default: on]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def search(
    data: Path,
    target: str,
    name: Optional[str],
    output: Path,
    exclude_bad: bool,
    seed: int,
    workers: Optional[int],
    no_prune: bool,
    bundle: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Find the best model for a board within limits, and build it.

    Many backbones and input sizes are tried without training, and the best of them with increasingly long training.
    The same command resumes an interrupted search.
    """
    from edgetl.data import DataOptions
    from edgetl.evaluation import render_search
    from edgetl.pipeline import BuildOptions
    from edgetl.pipeline.search import SearchOptions
    from edgetl.pipeline.search import search as find

    chosen = {key: value for key, value in arguments.items() if value not in (None, ())}
    if no_prune and "prune" in chosen:
        raise OptionError("--prune and --no-prune contradict each other; leave one of them out")
    if no_prune:
        chosen["prune"] = ()
    name, folder = name_and_folder(name, output)
    options = SearchOptions(
        **take_budget(chosen),
        build=BuildOptions(data=DataOptions(exclude_bad=exclude_bad, seed=seed, workers=workers)),
        **chosen,
    )
    with tidy_when_terminated(), show_progress() as progress:
        result = find(data, target, options, name=name, output=folder, bundle=bundle, progress=progress)
    if as_json:
        return print_json(result.to_json())
    render_search(result.report)
    echo(f"search  {result.report_html}")
    if result.built is not None:
        print_build(result.built)
