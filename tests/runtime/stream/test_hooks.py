"""Commands run for their label only, without a shell, in parallel to the classification, and with a time limit."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import pytest

from edgetl.errors import OptionError
from edgetl.runtime import Prediction
from edgetl.runtime.stream.hooks import Hooks


def seen(label: str = "cat", is_novel: bool = False) -> Prediction:
    return Prediction(label, 0.9, {label: 0.9, "dog": 0.1}, 0.25, is_novel, {"total": 1.0})


def python(code: str, *arguments: object) -> str:
    """A command that runs this Python code."""
    return shlex.join([sys.executable, "-c", code, *map(str, arguments)])


APPEND = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"


@pytest.fixture
def complaints() -> list[str]:
    return []


def test_a_command_runs_for_its_label_and_no_other(tmp_path: Path, complaints: list[str]) -> None:
    record = tmp_path / "record"
    with Hooks([("cat", python(APPEND, record, "{source}"))], complaints.append) as hooks:
        hooks.fire("a.jpg", seen("cat"))
        hooks.fire("b.jpg", seen("dog"))
        hooks.fire("c.jpg", seen("cat"))
    assert record.read_text() == "a.jpg\nc.jpg\n"
    assert complaints == []


def test_the_details_are_in_the_environment(tmp_path: Path, complaints: list[str]) -> None:
    code = "import os, sys; open(sys.argv[1], 'w').write(repr({k: v for k, v in os.environ.items() if 'EDGETL_' in k}))"
    with Hooks([("cat", python(code, tmp_path / "record"))], complaints.append, on_novel=True) as hooks:
        hooks.fire("a.jpg", seen("cat", is_novel=True))
    environment = eval((tmp_path / "record").read_text())
    assert (
        environment.items()
        >= {
            "EDGETL_SOURCE": "a.jpg",
            "EDGETL_LABEL": "cat",
            "EDGETL_PROBABILITY": "0.900000",
            "EDGETL_NOVELTY": "0.250000",
            "EDGETL_IS_NOVEL": "1",
        }.items()
    )


@pytest.mark.parametrize("name", ["a; touch owned", "$(touch owned)", "`touch owned`", "a b", "-rf", "ünï|x"])
def test_a_name_is_one_argument_whatever_it_contains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaints: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with Hooks([("cat", python(APPEND, "record", "{source}"))], complaints.append) as hooks:
        hooks.fire(name, seen())
    assert Path("record").read_text() == f"{'./' if name[0] == '-' else ''}{name}\n"
    assert not Path("owned").exists()


def test_a_failure_is_reported_in_one_line(complaints: list[str]) -> None:
    with Hooks([("cat", python("raise SystemExit(3)"))], complaints.append) as hooks:
        hooks.fire("a.jpg", seen())
    assert len(complaints) == 1
    assert complaints[0].startswith("the command for 'cat' ended with code 3: ")


def test_a_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path, complaints: list[str]) -> None:
    child = "import sys, time; time.sleep(3); open(sys.argv[1], 'w')"
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, *sys.argv[1:]]); time.sleep(60)"
    started = time.monotonic()
    with Hooks([("cat", python(parent, "-c", child, tmp_path / "owned"))], complaints.append, timeout_s=2) as hooks:
        hooks.fire("a.jpg", seen())
        assert time.monotonic() - started < 1.5, "the classification goes on meanwhile"
    assert "was killed after 2 seconds" in complaints[0]
    time.sleep(2)
    assert not (tmp_path / "owned").exists()


def test_only_one_command_of_a_label_runs_at_a_time(tmp_path: Path, complaints: list[str]) -> None:
    code = "import os, sys, time; os.mkdir(sys.argv[1]); time.sleep(0.1); os.rmdir(sys.argv[1])"
    with Hooks([("cat", python(code, tmp_path / "busy"))], complaints.append) as hooks:
        for _ in range(3):
            hooks.fire("a.jpg", seen())
    assert complaints == []


def test_a_camera_does_not_wait_for_a_command(tmp_path: Path, complaints: list[str]) -> None:
    record = tmp_path / "record"
    slow = f"{APPEND}; import time; time.sleep(2)"
    with Hooks([("cat", python(slow, record, "{source}"))], complaints.append, skip_while_busy=True) as hooks:
        started = time.monotonic()
        for number in range(5):
            hooks.fire(f"camera#{number}", seen())
        assert time.monotonic() - started < 1.5
    assert record.read_text() == "camera#0\n"


@pytest.mark.parametrize(
    ("command", "complaint"),
    [("", "cannot find the command"), ("no-such-command x", "no-such-command"), ("sh -c 'x", "No closing quotation")],
)
def test_a_command_that_cannot_work_is_refused_at_once(command: str, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        Hooks([("cat", command)], print)
