"""A closed, full or broken standard stream never ends in a traceback, and never receives what belongs elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.device.installing import Releases

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"]
FULL_DISK = 2


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in which $E is edgetl and $R is the device's runtime; what it prints is kept."""
    programs = {"E": f"{sys.executable} -m edgetl", "R": f"{sys.executable} -m edgetl.runtime"}
    line = ["bash", "-c", f"set -o pipefail; {command}"]
    return subprocess.run(line, env={**os.environ, **programs}, capture_output=True, text=True, timeout=120)


def is_quiet(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether nothing but lines for users was printed."""
    printed = done.stdout + done.stderr
    return "Traceback" not in printed and "Exception ignored" not in printed


@pytest.mark.parametrize("streams", CLOSED)
def test_a_closed_or_full_stream_is_no_traceback(streams: str, releases: Releases, tmp_path: Path) -> None:
    verbs = {
        "targets": 0,
        f"show {releases.first} --json": 0,
        f"deploy {releases.first} {tmp_path}/device/": 0,
        f"deploy {releases.first} nowhere.invalid": 2,
        f"show {tmp_path}/missing": 2,
    }
    for verb, code in verbs.items():
        done = shell(f"$E {verb} {streams}")
        assert is_quiet(done), done
        assert done.returncode == (FULL_DISK if streams.startswith(">/dev/full") else code), (verb, done)


@pytest.mark.parametrize("streams", CLOSED)
def test_a_device_answers_whatever_its_streams_are(streams: str, tmp_path: Path) -> None:
    done = shell(f"$R status --json --root {tmp_path} {streams}")
    assert is_quiet(done), done
    assert done.returncode == (FULL_DISK if streams.startswith(">/dev/full") else 0)
    assert shell(f"$R rollback --root {tmp_path} {streams}").returncode == 2


def test_a_full_disk_under_the_output_is_one_line(tmp_path: Path) -> None:
    for command in ("$E targets --json >/dev/full", f"$R status --root {tmp_path} >/dev/full"):
        done = shell(command)
        assert done.returncode == FULL_DISK
        assert done.stderr.startswith("edgetl: ")
        assert "space" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["$E targets", "$E targets --json", "$E backbones", "$R status --root {root}"])
def test_a_reader_that_goes_is_no_error(command: str, tmp_path: Path) -> None:
    done = shell(f"{command.format(root=tmp_path)} | true")
    assert is_quiet(done), done
    assert done.returncode == 0


def test_a_file_never_takes_the_place_of_a_closed_stream(releases: Releases, tmp_path: Path) -> None:
    code = (
        "import os, sys; from edgetl.runtime.system import open_standard_streams; open_standard_streams(); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2; os.write(1, b'noise'); "
        "os.write(2, b'noise'); assert sys.stdin.read() == ''; print('lost'); sys.stdout.flush()"
    )
    done = shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-')
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""
