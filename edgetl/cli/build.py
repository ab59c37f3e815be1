"""The verb that everything else is about: build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgetl.cli import print_json
from edgetl.cli.build_output import budget_options, print_build, take_budget
from edgetl.cli.console import ProgressCallback, show_progress
from edgetl.cli.signals import tidy_when_terminated
from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.pipeline import BuildOptions, BuildResult
    from edgetl.pipeline.search import SearchResult

PROJECT_FILE = Path("edgetl.toml")
"""Options of a project, so that `edgetl build` alone repeats its build."""


class _FineTune(click.ParamType):
    """auto, off, or a number of epochs."""

    name = "auto|off|EPOCHS"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("auto", "off"):
            return value
        try:
            epochs = int(value)
        except ValueError:
            self.fail(f"'{value}' is none of auto, off, or a number of epochs", param, ctx)
        if not 1 <= epochs <= 1000:
            self.fail(f"{epochs} epochs is out of range; choose 1 to 1000", param, ctx)
        return epochs


class _Sparsity(click.ParamType):
    """A share, or 2:4."""

    name = "SHARE|2:4"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "2:4":
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"'{value}' is neither a share, such as 0.8, nor 2:4", param, ctx)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with a folder per class, or a CSV of path,label.")
@click.option("--target", help="The board; `edgetl targets` lists them.  [default: generic]")
@click.option("--name", help="Name of the bundle.  [default: the data folder's name]")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.  [default: .]")
@budget_options
@click.option("--backbone", help="A name from `edgetl backbones`, a file (Keras model or .tflite), or a bundle.")
@click.option(
    "--edgetpu-backbone",
    type=click.Path(path_type=Path),
    help="What the Edge TPU compiler made of --backbone FILE.tflite; then no compiler is needed.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="File with the backbone's pretrained weights.")
@click.option("--input-size", type=int, help="Pixels a side that the model sees.  [default: the backbone's]")
@click.option(
    "--normalization",
    type=(float, float),
    metavar="OFFSET SCALE",
    help="What a Keras model file takes: (pixel - OFFSET) / SCALE, where the file does not say so itself.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "int8-qat", "int16x8", "dynamic", "float16", "float32"]),
    help="Number format of the compiled backbone; int8-qat trains it for int8.  [default: int8]",
)
@click.option("--max-drop", type=float, metavar="POINTS", help="Accuracy the result may lose against float32.")
@click.option("--allow-drop", is_flag=True, default=None, help="Ship it, and say so, where it loses more.")
@click.option("--fine-tune", type=_FineTune(), help="Retrain the backbone too.  [default: auto]")
@click.option("--teacher", metavar="BUNDLE|BACKBONE", help="Learn from a larger model too, where that helps.")
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of pictures from the device, without labels, for the teacher to explain.",
)
@click.option(
    "--related",
    type=click.Path(path_type=Path),
    help="Photos of a related domain, a folder per class, for the backbone to learn from where that helps.",
)
@click.option(
    "--prune",
    type=float,
    metavar="SHARE",
    help="Make the backbone smaller and faster: 0.5 removes half of its multiply-accumulates, channel by channel.",
)
@click.option("--sparsity", type=_Sparsity(), help="Set this share of the weights to zero: a smaller download.")
@click.option("--clusters", type=int, help="Let the weights of a layer share so many values: a smaller download.")
@click.option("--exclude-bad", is_flag=True, default=None, help="Leave out photos that the checks object to.")
@click.option("--seed", type=int, help="Seed of the split and of the training.  [default: 0]")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read photos.  [default: one a core]")
@click.option(
    "--float-reference/--no-float-reference",
    default=None,
    help="Measure the float model beside the quantized one.  [default: on]",
)
@click.option("--require-edgetpu", is_flag=True, default=None, help="Fail where no Edge TPU compiler is at hand.")
@click.option("--compare-scratch", is_flag=True, default=None, help="Also train the backbone from scratch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the summary.")
def build(as_json: bool, **given: Any) -> None:
    """Turn a folder of photos into one verified bundle, NAME.edgetl, and its report.

    Under a limit, such as --max-latency-ms 60, it searches for the model that keeps to it, among all that the other
    options leave open. Without --data and without an edgetl.toml, the built-in digits are used.
    """
    from edgetl.evaluation import wording

    options = {**read_project(PROJECT_FILE), **{key: value for key, value in given.items() if value is not None}}
    asked = take_budget(options)
    if asked and "budget" not in asked:
        raise OptionError("--time is for the search under a limit; give one, such as --max-latency-ms 60")
    if "data" not in options:
        options["data"] = _built_in_digits()
        options.setdefault("name", "digits")
        click.echo("no --data, neither here nor in an edgetl.toml: building from the built-in digits", err=True)
    with tidy_when_terminated(), show_progress() as progress:
        found, built = _find_and_build(options, asked, progress)
    if as_json:
        return print_json({**built.to_json(), "search": found and found.found_json()})
    print_build(built)
    if found is not None:
        tried = wording.count(len(found.report.trials), "model")
        click.echo(f"search  {found.report_html}: {found.report.pick.name} is the pick of {tried} within the limits")


def _find_and_build(
    given: dict[str, Any], asked: dict[str, Any], progress: ProgressCallback
) -> tuple[Optional[SearchResult], BuildResult]:
    """The build, and the search for its model where limits were asked for and leave something to choose."""
    from edgetl.pipeline import build
    from edgetl.pipeline.search import SearchOptions, search

    source, target, options = given["data"], given.get("target", "generic"), _build_options(given)
    where = {"name": given.get("name"), "output": given.get("output", Path(".")), "progress": progress}
    if not asked or options.names_one_model:
        return None, build(source, target, replace(options, budget=asked.get("budget")), **where)
    found = search(source, target, SearchOptions(build=options, **asked), **where)
    assert found.built is not None
    return found, found.built


def read_project(path: Path) -> dict[str, Any]:
    """The options under [build] of a project file; an empty dict where there is no file.

    Relative paths are meant from the file's folder.

    Raises:
        OptionError: the file is not TOML, or holds an option that `edgetl build` does not have.
    """
    from edgetl.targets import tomllib

    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"{path} is not a project file: {error}") from error
    if strange := [key for key, value in content.items() if key != "build" or not isinstance(value, dict)]:
        raise OptionError(f"{path}: unknown '{strange[0]}'; a project's options stand under [build]")
    options = {key.replace("-", "_"): value for key, value in content.get("build", {}).items()}
    known = {parameter.name: parameter for parameter in build.params if parameter.name != "as_json"}
    for key in options:
        if key not in known:
            raise OptionError(f"{path}: unknown option '{key}' under [build]; known are {', '.join(sorted(known))}")
    options = {key: _typed(known[key], value, path) for key, value in options.items()}
    return {key: path.parent / value if isinstance(value, Path) else value for key, value in options.items()}


def _typed(option: click.Parameter, value: Any, path: Path) -> Any:
    """The value as the command line would take it, where 1.7 is no whole number; raises OptionError."""
    items = value if option.nargs > 1 else [value]
    is_flag = isinstance(option, click.Option) and option.is_flag
    scalars = (bool,) if is_flag else (str, int, float)
    if not isinstance(items, list) or any(type(item) not in scalars for item in items):
        raise OptionError(f"{path}: {option.name} cannot be {value!r}; see edgetl build --help")
    words = items if is_flag else [str(item) for item in items]
    try:
        return option.type_cast_value(click.Context(build, info_name="build"), words if option.nargs > 1 else words[0])
    except click.BadParameter as error:
        raise OptionError(f"{path}: {option.name}: {error.message}") from error


def _build_options(given: dict[str, Any]) -> BuildOptions:
    """The options that were given, each in the room that owns it."""
    from edgetl.conversion import ConversionOptions, PruningOptions, SparsityOptions
    from edgetl.data import DataOptions
    from edgetl.pipeline import BuildOptions

    def chosen(*names: str) -> dict[str, Any]:
        return {name: given[name] for name in names if name in given}

    aware = given.get("quantize") == "int8-qat"
    return BuildOptions(
        **chosen("backbone", "edgetpu_backbone", "weights", "input_size", "normalization", "fine_tune"),
        **chosen("teacher", "unlabelled", "related"),
        **chosen("float_reference", "compare_scratch", "require_edgetpu", "max_drop", "allow_drop"),
        data=DataOptions(**chosen("exclude_bad", "seed", "workers")),
        aware=aware,
        conversion=ConversionOptions(**({"quantize": "int8"} if aware else chosen("quantize"))),
        pruning=PruningOptions(given["prune"]) if "prune" in given else None,
        sparsity=SparsityOptions(**chosen("sparsity", "clusters")) if {"sparsity", "clusters"} & set(given) else None,
    )


def _built_in_digits() -> Path:
    from edgetl.data import open_cache_folder, write_digits

    return write_digits(open_cache_folder() / "digits")
