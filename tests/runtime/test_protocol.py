"""`python -m edgetl.runtime` answers a host in JSON, with the version of the protocol."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetl.runtime import PROTOCOL
from edgetl.runtime.__main__ import USAGE_ERROR, main


def test_every_json_answer_has_the_version_of_the_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "configure", "trust"):
        assert main([verb, "--root", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["protocol"] == PROTOCOL == 1


def test_lines_for_people_have_no_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configure", "--root", str(tmp_path)]) == 0
    assert "protocol" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["levitate"], "invalid choice: 'levitate'"),
        (["status", "--levitate"], "unrecognized arguments: --levitate"),
        (["status", "--levitate", "5"], "unrecognized arguments: --levitate 5"),
        (["install", "FILE", "--levitate=5"], "unrecognized arguments: --levitate=5"),
        (["--levitate", "status"], "unrecognized arguments: --levitate"),
    ],
)
def test_an_unknown_verb_or_option_has_an_exit_code_of_its_own(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (words, [*words, "--json"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == USAGE_ERROR == 64
        captured = capsys.readouterr()
        assert complaint in captured.err.splitlines()[-1]
        expected = [{"error": "unknown verb or option", "protocol": 1}] if "--json" in arguments else []
        assert [json.loads(line) for line in captured.out.splitlines()] == expected


@pytest.mark.parametrize("words", [[], ["install"], ["bench", "--seconds", "long"]])
def test_other_faults_of_a_command_line_exit_as_argparse_does(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
