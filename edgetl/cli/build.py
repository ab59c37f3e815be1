"""The verb build: its options, and the project file that stores them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgetl.cli.build_output import OUTPUT_HELP, budget_options, name_and_folder, print_build, take_budget
from edgetl.cli.console import echo, print_json, show_progress
from edgetl.cli.examples import examples
from edgetl.cli.signals import tidy_when_terminated
from edgetl.conversion import QUANTIZE_CHOICES
from edgetl.errors import OptionError
from edgetl.progress import Progress
from edgetl.toml_file import read_toml

if TYPE_CHECKING:
    from edgetl.pipeline import BuildOptions, BuildResult
    from edgetl.pipeline.search import SearchResult

PROJECT_FILE = Path("edgetl.toml")
"""Stores the options of a project, so that `edgetl build` without options repeats its build."""


class _FineTune(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """The parameter type of --fine-tune: "auto", "off", or a number of epochs."""

    name = "auto|off|EPOCHS"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("auto", "off"):
            return value
        try:
            epochs = int(value)
        except ValueError:
            self.fail(f"invalid value '{value}': expected auto, off, or a number of epochs", param, ctx)
        if not 1 <= epochs <= 1000:
            self.fail(f"invalid number of epochs {epochs}: expected 1 to 1000", param, ctx)
        return epochs


class _Sparsity(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """The parameter type of --sparsity: a share, or "2:4"."""

    name = "SHARE|2:4"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "2:4":
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"invalid sparsity '{value}': expected a share, e.g. 0.8, or 2:4", param, ctx)


@examples(
    "edgetl build --data photos --target rpi4",
    "edgetl build --data photos --target coral --max-latency-ms 10 -o leaves.edgetl",
)
@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder with a subfolder per class, or a CSV file with path,label."
)
@click.option("--target", help="The board; list them with `edgetl targets`.  [default: generic]")
@click.option("--name", help="Name of the bundle.  [default: the data folder's name]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help=f"{OUTPUT_HELP}  [default: .]")
@budget_options
@click.option("--backbone", help="A name from `edgetl backbones`, a file (Keras model or .tflite), or a bundle.")
@click.option(
    "--edgetpu-backbone",
    type=click.Path(path_type=Path),
    help="The file that the Edge TPU compiler made from --backbone FILE.tflite; no compiler is then needed.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="File with the pretrained weights of the backbone.")
@click.option(
    "--input-size", type=int, help="Width and height of the model's input in pixels.  [default: the backbone's]"
)
@click.option(
    "--normalization",
    type=(float, float),
    metavar="OFFSET SCALE",
    help="Input of a Keras model file, if the file does not define it: (pixel - OFFSET) / SCALE.",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZE_CHOICES),
    help="Number format of the compiled backbone; int8-qat uses quantization-aware training.  [default: int8]",
)
@click.option(
    "--max-drop", type=float, metavar="POINTS", help="Fail if the result loses more accuracy than this against float32."
)
@click.option("--allow-drop", is_flag=True, default=None, help="With --max-drop: only report a larger loss.")
@click.option(
    "--fine-tune", type=_FineTune(), help="Whether to retrain the backbone too, and for how long.  [default: auto]"
)
@click.option("--teacher", metavar="BUNDLE|BACKBONE", help="Distil a larger model, if that improves accuracy.")
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of unlabelled pictures from the device, for the teacher to label.",
)
@click.option(
    "--related",
    type=click.Path(path_type=Path),
    help="Photos of a related domain, a subfolder per class, to pretrain the backbone on if that improves accuracy.",
)
@click.option(
    "--prune",
    type=float,
    metavar="SHARE",
    help="Make the backbone smaller and faster: 0.5 prunes channels until half of its multiply-accumulates are gone.",
)
@click.option("--sparsity", type=_Sparsity(), help="Set this share of the weights to zero, for a smaller download.")
@click.option(
    "--clusters", type=int, help="Let the weights of each layer share this many values, for a smaller download."
)
@click.option("--exclude-bad", is_flag=True, default=None, help="Leave out photos that fail the checks.")
@click.option("--seed", type=int, help="Random seed of the split and the training.  [default: 0]")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read photos.  [default: one per core]")
@click.option(
    "--float-reference/--no-float-reference",
    default=None,
    help="Also measure the float model.  [default: on]",
)
@click.option("--require-edgetpu", is_flag=True, default=None, help="Fail if no Edge TPU compiler is available.")
@click.option(
    "--compare-scratch", is_flag=True, default=None, help="Also train the backbone from scratch, for comparison."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the summary.")
def build(as_json: bool, **arguments: Any) -> None:
    """Build a verified bundle and its report from a folder of photos.

    With a limit, e.g. --max-latency-ms 60, edgetl searches for the best model within it, among those that the other
    options allow. Options may be stored in ./edgetl.toml, under [build]. If --data is given neither there nor here, the
    built-in digits are used.
    """
    from edgetl.evaluation import wording

    options = {**read_project(PROJECT_FILE), **{key: value for key, value in arguments.items() if value is not None}}
    search_options = take_budget(options)
    if search_options and "budget" not in search_options:
        raise OptionError("--time needs a limit to search under; add one, e.g. --max-latency-ms 60")
    if "data" not in options:
        options["data"] = _built_in_digits()
        options.setdefault("name", "digits")
        echo("no --data given, and none in edgetl.toml: building from the built-in digits", err=True)
    with tidy_when_terminated(), show_progress() as progress:
        found, built = _search_or_build(options, search_options, progress)
    if as_json:
        return print_json({**built.to_json(), "search": found and found.found_json()})
    print_build(built)
    if found is not None:
        trials = wording.count(len(found.report.trials), "model")
        echo(f"search  {found.report_html}: {found.report.pick.name} was chosen from {trials} within the limits")


def _search_or_build(
    parameters: dict[str, Any], search_options: dict[str, Any], progress: Progress
) -> tuple[Optional[SearchResult], BuildResult]:
    """Build, after a search for the model if there are limits and the other options leave a choice."""
    from edgetl.pipeline import build
    from edgetl.pipeline.search import SearchOptions, search

    source, target, options = parameters["data"], parameters.get("target", "generic"), _build_options(parameters)
    name, folder = name_and_folder(parameters.get("name"), parameters.get("output", Path(".")))
    if not search_options or options.names_one_model:
        options = replace(options, budget=search_options.get("budget"))
        return None, build(source, target, options, name=name, output=folder, progress=progress)
    searching = SearchOptions(build=options, **search_options)
    found = search(source, target, searching, name=name, output=folder, progress=progress)
    assert found.built is not None
    return found, found.built


def read_project(path: Path) -> dict[str, Any]:
    """The options under [build] of a project file, by parameter name; empty if the file does not exist.

    Relative paths are relative to the folder of the file.

    Raises:
        OptionError: the file is not TOML, or contains an option that `edgetl build` does not have.
    """
    try:
        content = read_toml(path, "a project file")
    except FileNotFoundError:
        return {}
    if unknown := [key for key, value in content.items() if key != "build" or not isinstance(value, dict)]:
        raise OptionError(f"{path}: unknown '{unknown[0]}'; write the options of a project under [build]")
    options = {key.replace("-", "_"): value for key, value in content.get("build", {}).items()}
    known = {parameter.name: parameter for parameter in build.params if parameter.name != "as_json"}
    for key in options:
        if key not in known:
            raise OptionError(f"{path}: unknown option '{key}' under [build]; choose {', '.join(sorted(known))}")
    options = {key: _typed(known[key], value, path) for key, value in options.items()}
    return {key: path.parent / value if isinstance(value, Path) else value for key, value in options.items()}


def _typed(option: click.Parameter, value: Any, path: Path) -> Any:
    """The value, converted as on the command line, where 1.7 is not a whole number. Raises OptionError."""
    items = value if option.nargs > 1 else [value]
    is_flag = isinstance(option, click.Option) and option.is_flag
    scalars = (bool,) if is_flag else (str, int, float)
    if not isinstance(items, list) or any(type(item) not in scalars for item in items):
        raise OptionError(f"{path}: {option.name}: invalid value {value!r}; see edgetl build --help")
    words = items if is_flag else [str(item) for item in items]
    try:
        return option.type_cast_value(click.Context(build, info_name="build"), words if option.nargs > 1 else words[0])
    except click.BadParameter as error:
        raise OptionError(f"{path}: {option.name}: {error.message}") from error


def _build_options(parameters: dict[str, Any]) -> BuildOptions:
    """The options of a build: each parameter fills the field of the same name, in the options of the room that owns it.

    `parameters` contains the parameters of `build` that were set.
    """
    from edgetl.conversion import ConversionOptions, PruningOptions, SparsityOptions
    from edgetl.data import DataOptions
    from edgetl.pipeline import BuildOptions

    values = {key: value for key, value in parameters.items() if key not in _NOT_FIELDS}
    aware = values.get("quantize") == "int8-qat"
    if aware:
        values["quantize"] = "int8"
    sparsity = _fields_of(SparsityOptions, values)
    own = {key: value for key, value in _fields_of(BuildOptions, values).items() if key != "sparsity"}
    return BuildOptions(
        **own,
        data=DataOptions(**_fields_of(DataOptions, values)),
        aware=aware,
        conversion=ConversionOptions(**_fields_of(ConversionOptions, values)),
        pruning=PruningOptions(values["prune"]) if "prune" in values else None,
        sparsity=SparsityOptions(**sparsity) if sparsity else None,
    )


_NOT_FIELDS = ("data", "target", "name", "output")
"""Parameters that are arguments of `edgetl.build` itself."""


def _fields_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values that are fields of a dataclass."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def _built_in_digits() -> Path:
    from edgetl.data import open_cache_folder, write_digits

    return write_digits(open_cache_folder() / "digits")
