"""The repository's own files agree with each other: contributing guide, workflows, hooks, pins and extras."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml

from edgetl.runtime.system.packages import NEEDS
from edgetl.toml_file import parse_toml
from tests.conftest import REPOSITORY

CONSTRAINTS = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split())
PROJECT = parse_toml((REPOSITORY / "pyproject.toml").read_text())["project"]
YAML = [
    *sorted(REPOSITORY.glob(".github/**/*.yml")),
    REPOSITORY / ".pre-commit-config.yaml",
]


def requirements(extra: str) -> set[str]:
    return {re.split(r"[^\w.-]", line)[0] for line in PROJECT["optional-dependencies"][extra]}


def test_the_guide_answers_where_things_are_with_files_that_exist() -> None:
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text()
    section = guide.partition("## Where is it?")[2].partition("\n## ")[0]
    answers = re.findall(r"^\| (.+\?) \| `([^`]+)`", section, re.MULTILINE)
    assert len(answers) >= 10
    assert [path for _, path in answers if not (REPOSITORY / path).is_file()] == []


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_workflows_and_hooks_are_yaml(path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_every_action_is_pinned_to_a_commit_and_names_its_version() -> None:
    for path in REPOSITORY.glob(".github/workflows/*.yml"):
        for line in re.findall(r"uses: (.*)", path.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", line)


def test_hooks_run_what_make_lint_runs() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    (group,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in group["hooks"]:
        program = hook["entry"].split()[0]
        if program == "make":
            assert f"\n{hook['entry'].split()[1]}:" in makefile
        else:
            assert program.replace(".venv/bin", "$(BIN)") in makefile


def test_the_matrix_of_the_workflow_is_that_of_the_tests() -> None:
    from tests.pythons import DEVICE_PYTHONS

    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]
    assert set(jobs["device"]["strategy"]["matrix"]["python"]) == {version for version, _ in DEVICE_PYTHONS}


def test_pins_outside_the_constraints_agree_with_them() -> None:
    texts = [path.read_text() for path in REPOSITORY.glob("docker/*/*") if path.is_file()]
    pins = re.findall(r"\b([a-z][\w-]*)==([\d.]+\d)", "\n".join(texts))
    assert pins
    others = {"tflite-runtime", "numpy"}  # the oldest interpreter, and the newest numpy that it accepts
    assert [pin for pin in pins if pin[0] not in others and CONSTRAINTS.get(pin[0]) != pin[1]] == []


@pytest.mark.parametrize(("name", "extra"), [(name, extra) for name, extra, _ in NEEDS])
def test_doctor_names_the_extra_that_brings_a_package(name: str, extra: str) -> None:
    wanted = requirements(extra) if extra else {re.split(r"[^\w.-]", line)[0] for line in PROJECT["dependencies"]}
    assert name in wanted


def test_doctor_works_where_numpy_is_missing() -> None:
    code = "import sys; sys.modules['numpy'] = None; from edgetl.cli import main; main(['doctor', '--json'])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert [package["name"] for package in json.loads(ran.stdout)] == [name for name, _, _ in NEEDS]
