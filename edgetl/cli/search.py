"""The verb that finds out which model to build: search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from edgetl.cli import print_json
from edgetl.cli.build_output import budget_options, print_build, take_budget
from edgetl.cli.console import show_progress
from edgetl.cli.signals import tidy_when_terminated
from edgetl.errors import OptionError


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with a folder per class, or a CSV of path,label.",
)
@click.option("--target", default="generic", show_default=True, help="The board; `edgetl targets` lists them.")
@click.option("--name", help="Name of the bundle.  [default: the data folder's name]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    show_default=True,
    help="Folder to write to.",
)
@budget_options
@click.option("--backbone", "backbones", multiple=True, help="Try only this one; can be given again.  [default: all]")
@click.option(
    "--input-size",
    "input_sizes",
    type=int,
    multiple=True,
    help="Smaller inputs to try, in pixels a side.  [default: 96, 128, 160, 192, 224]",
)
@click.option("--epochs", type=int, multiple=True, help="Lengths of fine-tuning, growing.  [default: 3, 10]")
@click.option(
    "--prune",
    type=float,
    multiple=True,
    metavar="SHARE",
    help="Share of its multiply-accumulates to take from the best model, as one more to choose from.  [default: 0.5]",
)
@click.option("--no-prune", is_flag=True, help="Prune nothing.")
@click.option(
    "--weights", type=click.Path(path_type=Path, file_okay=False), help="Folder of weights files, as EDGETL_WEIGHTS."
)
@click.option("--exclude-bad", is_flag=True, help="Leave out photos that the checks object to.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split and of the training.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read photos.  [default: one a core]")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Run the trials on this Ray cluster, HOST:PORT, or auto for the one that runs here. All its machines read "
    "photos and weights at the same path (a shared file system), and have the same edgetl.",
)
@click.option("--build/--no-build", "bundle", default=True, help="Build the pick.  [default: on]")
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
    **given: Any,
) -> None:
    """Find the model for a board within a budget, and build it.

    Many backbones and input sizes are tried without training, the best of them with more and more of it. The same
    command goes on where an interrupted one was.
    """
    from edgetl.data import DataOptions
    from edgetl.evaluation import render_search
    from edgetl.pipeline import BuildOptions
    from edgetl.pipeline.search import SearchOptions
    from edgetl.pipeline.search import search as find

    chosen = {key: value for key, value in given.items() if value not in (None, ())}
    if no_prune and "prune" in chosen:
        raise OptionError("--prune and --no-prune contradict each other; leave one of them out")
    if no_prune:
        chosen["prune"] = ()
    options = SearchOptions(
        **take_budget(chosen),
        build=BuildOptions(data=DataOptions(exclude_bad=exclude_bad, seed=seed, workers=workers)),
        **chosen,
    )
    with tidy_when_terminated(), show_progress() as progress:
        result = find(data, target, options, name=name, output=output, bundle=bundle, progress=progress)
    if as_json:
        return print_json(result.to_json())
    render_search(result.report)
    click.echo(f"search  {result.report_html}")
    if result.built is not None:
        print_build(result.built)
