"""The documentation agrees with the code: links, commands, options, modules and paths that it names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest

import edgetl
from edgetl.backbones import list_backbones
from edgetl.cli import cli
from edgetl.evaluation.search_report import SearchReport, Trial
from edgetl.targets import list_targets
from edgetl.toml_file import parse_toml
from tests.conftest import REPOSITORY
from tests.docs.pages import DOCS, anchors, blocks, commands, inline_code, links, name_of, pages, table

PROJECT = parse_toml((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERBS = cli.list_commands(click.Context(cli))

each_page = pytest.mark.parametrize("page", pages(), ids=name_of)


@each_page
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} is not there"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@each_page
def test_every_edgetl_command_parses(page: Path) -> None:
    for words, is_whole in commands(page):
        if words[0] == "edgetl" and len(words) > 1:
            check_command(words[1:], is_whole)


@each_page
def test_every_command_of_the_device_parses(page: Path) -> None:
    for words, _ in commands(page):
        if words[:3] == ["python", "-m", "edgetl.runtime"] and len(words) > 3 and words[3] != "VERB":
            verb, options = words[3], [word.partition("=")[0] for word in words[4:] if word.startswith("--")]
            described = help_of_device_verb(verb)
            assert all(option in described for option in options), f"{words}: see {verb} --help"


@each_page
def test_every_benchmark_exists(page: Path) -> None:
    for module in re.findall(r"-m (benchmarks\.\w+)", page.read_text(encoding="utf-8")):
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file(), f"no {module}"


@each_page
def test_every_path_of_the_repository_exists(page: Path) -> None:
    roots = ("edgetl/", "tests/", "targets/", "benchmarks/", "examples/", "docker/", "docs/")
    for code in inline_code(page):
        for word in code.split():
            if word.startswith(roots) and re.fullmatch(r"[a-z0-9_./*-]+", word):
                assert any(REPOSITORY.glob(word.rstrip("/"))), f"no {word}"


@each_page
def test_every_make_target_exists(page: Path) -> None:
    known = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M)
    for words, _ in commands(page):
        if words[0] == "make" and len(words) > 1:
            assert words[1] in known, f"no make {words[1]}"


@each_page
def test_every_extra_exists(page: Path) -> None:
    for extras in re.findall(r"(?:'\.|edgetl)\[([\w,]+)\]", page.read_text(encoding="utf-8")):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), f"no extra in [{extras}]"


@each_page
def test_python_examples_use_public_names(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, name_of(page), "exec")
            assert set(re.findall(r"\bedgetl\.(\w+)", block.text)) <= set(edgetl.__all__)


def test_project_files_have_options_of_build() -> None:
    known = {option for parameter in command("build").params for option in parameter.opts}
    shown = [block.text for page in pages() for block in blocks(page) if "[build]" in block.text]
    assert shown
    for text in shown:
        assert {f"--{key}" for key in parse_toml(text)["build"]} <= known


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_the_reference(verb: str) -> None:
    assert f"edgetl {verb}" in inline_code(DOCS / "reference/cli.md")


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    documented = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)", text, re.M)}
    assert set(edgetl.__all__) - {"__version__"} <= documented


def test_the_table_of_targets_is_complete() -> None:
    listed = table(DOCS / "reference/targets.md", "Targets")
    shipped = {path.stem for path in (REPOSITORY / "targets").glob("*.toml")}
    assert listed == {target.name: target.title for target in list_targets() if target.name in shipped}


def test_the_table_of_backbones_is_complete() -> None:
    listed = table(DOCS / "reference/backbones.md", "Backbones")
    assert listed == {spec.name: str(spec.input_sizes[0]) for spec in list_backbones()}


def test_the_keys_of_a_search_are_complete() -> None:
    listed = table(DOCS / "reference/json.md", "`edgetl search`")
    assert set(listed) == {field.name for field in fields(SearchReport)} | {"pick", "report_html", "build"}
    assert set(table(DOCS / "reference/json.md", "A trial")) == {field.name for field in fields(Trial)}


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= 900


def check_command(words: list[str], is_whole: bool) -> None:
    """Raise AssertionError where the verb or an option does not exist, or, of a whole command, where one is missing."""
    verb, *rest = words
    if verb.startswith("-") or verb == "VERB":
        return
    assert verb in VERBS, f"no verb {verb}"
    known = command(verb)
    try:
        given, _, _ = known.make_parser(click.Context(known, info_name=verb)).parse_args(list(rest))
    except click.UsageError as error:
        if isinstance(error, click.BadOptionUsage) and not is_whole:  # an option that is named without its value
            return
        raise AssertionError(f"{words}: {error.format_message()}") from error
    for parameter in known.params:
        value = given.get(str(parameter.name))
        if is_whole and "--help" not in rest:
            missing = parameter.required and value in (None, ())
            assert not missing, f"{words}: {parameter.name} is missing"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str) and value.islower():
            assert value in parameter.type.choices, f"{words}: {value} is not a choice"


def command(verb: str) -> click.Command:
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return found


@cache
def help_of_device_verb(verb: str) -> str:
    ran = subprocess.run([sys.executable, "-m", "edgetl.runtime", verb, "--help"], capture_output=True, text=True)
    assert ran.returncode == 0, f"no verb {verb}: {ran.stderr}"
    return ran.stdout
