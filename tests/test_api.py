"""What `edgetl` exports: pinned, loaded on first use, with the types that a checker sees."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgetl
from edgetl import errors
from edgetl.cli import cli
from tests.conftest import REPOSITORY
from tests.models import CACHE

NAMES = """
Artifact Budget BuildOptions BuildResult Bundle BundleError CanaryError Classifier ConversionError DataError Deployed
DeviceError EdgetlError EngineError Evaluation ImageError InstallError IntegrityError KeyFileError Learner LearningError
MissingExtraError OptionError Prediction Preprocess Report SearchOptions SearchResult SignatureError Statistics Step
StorageError Target TrainingError Transport UnknownNameError WeightsError __version__
bench build check compile connect deploy devices doctor evaluate export list_backbones list_keys list_targets
load_target logs new_key open_bundle prepare pull rollback run search service show sign status trim trust_key
"""
PUBLIC = NAMES.split()

OTHERWISE_NAMED = {"targets": "list_targets", "backbones": "list_backbones", "keys": "list_keys"}
"""A function of these names would hide the folder of that name, or is one of three."""

LAZY = [
    path.relative_to(REPOSITORY)
    for path in sorted(REPOSITORY.glob("edgetl/**/__init__.py"))
    if "__getattr__" in path.read_text()
]

PROGRAM = """
import edgetl
from edgetl import BuildOptions, Classifier, EdgetlError, Learner
from edgetl.runtime import Prediction, Preprocess, interpreters
from edgetl.training import FineTuned
from edgetl.learners import Statistics
from pathlib import Path
from typing import Iterator, assert_type

def use(options: BuildOptions) -> None:
    try:
        built = edgetl.build("photos", "rpi4", options)
    except EdgetlError as error:
        assert_type(error.exit_code, int)
        return
    assert_type(built, edgetl.BuildResult)
    assert_type(built.report, edgetl.Report)
    assert_type(Classifier(built.bundle).predict("photo.jpg"), Prediction)
    with Learner(built.bundle) as learner:
        assert_type(learner.teach("photo.jpg", "oak"), edgetl.Step)
        assert_type(learner.statistics(), Statistics)
    with edgetl.connect("board") as transport:
        assert_type(edgetl.deploy(built.bundle, transport), edgetl.Deployed)
        assert_type(edgetl.rollback(transport).digest, str)
        assert_type(edgetl.logs(transport), Iterator[str])
    assert_type(edgetl.open_bundle("x.edgetl"), edgetl.Bundle)
    assert_type(edgetl.load_target("rpi4"), edgetl.Target)
    assert_type(edgetl.export("x.edgetl"), Path)
    edgetl.build(1)
    edgetl.no_such_verb
"""
"""Of its last two lines a checker must complain, and of no other."""


def source(path: Path) -> ast.Module:
    return ast.parse((REPOSITORY / path).read_text())


def table(path: Path) -> dict[str, str]:
    """The names that a lazy module loads on first use, with the module that each comes from."""
    package = ".".join(path.parts[:-1])
    (found,) = (
        ast.literal_eval(node.value)
        for node in source(path).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    )
    return {name: home if home.startswith("edgetl.") else f"{package}.{home}" for name, home in found.items()}


def seen_by_checkers(path: Path) -> dict[str, str]:
    """The same, as the module's `if TYPE_CHECKING:` has it."""
    imports = {}
    for node in source(path).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for entry in node.body:
                assert isinstance(entry, ast.ImportFrom)
                for alias in entry.names:
                    module = f"{entry.module}:{alias.name}" if alias.asname else str(entry.module)
                    imports[alias.asname or alias.name] = module
    return imports


def test_the_public_names_are_these():
    assert sorted(edgetl.__all__) == sorted(PUBLIC)
    assert dir(edgetl) == edgetl.__all__


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name):
    assert getattr(edgetl, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'edgetl' has no attribute 'biuld'"):
        edgetl.biuld  # noqa: B018


def test_importing_edgetl_loads_nothing_else_of_it():
    code = (
        "import sys; before = set(sys.modules); import edgetl;"
        "print(*(name for name in set(sys.modules) - before if name.split('.')[0] in ('edgetl', 'numpy', 'click')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == {"edgetl", "edgetl.lazy"}


def test_every_error_is_exported():
    family = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert family <= set(edgetl.__all__)


@pytest.mark.parametrize("verb", sorted(cli.list_commands(None)))
def test_every_verb_of_the_command_line_is_a_function_or_a_method(verb):
    name = OTHERWISE_NAMED.get(verb, verb)
    found = getattr(edgetl, name, None) or getattr(edgetl.Learner, name, None)
    assert inspect.isfunction(found), f"edgetl.{name} is not a function, and Learner has no method of that name"
    assert found.__doc__


def test_these_modules_load_on_first_use():
    assert {str(path.parent) for path in LAZY} >= {"edgetl", "edgetl/runtime", "edgetl/learners", "edgetl/training"}


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.as_posix())
def test_checkers_see_what_is_loaded(path):
    assert table(path) == seen_by_checkers(path)
    package = importlib.import_module(".".join(path.parts[:-1]))
    assert table(path).keys() <= set(package.__all__)


@pytest.mark.slow
def test_a_users_program_is_checked_with_the_real_types(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={CACHE / 'mypy'}"]
    options = ["--ignore-missing-imports", "--follow-imports=silent", "program.py"]
    environment = {"PATH": "", "HOME": str(tmp_path), "MYPYPATH": str(REPOSITORY)}
    ran = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)
    complaints = [line for line in ran.stdout.splitlines() if ": error: " in line]
    last = len(PROGRAM.splitlines())
    assert [line.split(":")[1] for line in complaints] == [str(last - 1), str(last)], ran.stdout + ran.stderr
