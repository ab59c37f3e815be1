"""`edgetl run`: what it prints for whom, how it ends, and what it does for labels."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import EDGETPU_MODEL, open_bundle, pack
from edgetl.cli.signals import GracefulStop
from tests.cli.test_command_line import edgetl
from tests.models import colour_frame

COLOURS = ["red", "green", "blue"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, colour in enumerate(COLOURS):
        Image.fromarray(colour_frame(colour, seed + 100)).save(folder / f"{colour}.png")
    return folder


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgetl", "run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def lines(process: subprocess.Popen[str], count: int) -> list[dict]:  # type: ignore[type-arg]
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_each_image_gets_a_line(tiny_bundle: Path, pictures: Path) -> None:
    done = edgetl("run", tiny_bundle, "--source", pictures)
    assert done.returncode == 0
    assert [line.split(": ")[1].split()[0] for line in done.stdout.splitlines()] == ["blue", "green", "red"]


def test_some_unreadable_images_are_reported_and_skipped(tiny_bundle: Path, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"none")
    done = edgetl("run", tiny_bundle, "--source", pictures)
    assert done.returncode == 0
    assert "broken.png" in done.stderr
    assert done.stderr.endswith("1 image could not be read\n")
    answers = edgetl("run", tiny_bundle, "--source", pictures, "--json").stdout.splitlines()
    assert ["error" in json.loads(line) for line in answers] == [False, True, False, False]


def test_only_unreadable_images_end_with_code_1(tiny_bundle: Path, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"none")
    assert edgetl("run", tiny_bundle, "--source", pictures / "broken.png").returncode == 1


def test_no_image_on_standard_input_is_no_failure(tiny_bundle: Path) -> None:
    process = start(tiny_bundle, "--source", "-", stdin=subprocess.DEVNULL)
    assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_a_pipe_gets_each_answer_at_once_and_sigterm_ends_with_code_0(tiny_bundle: Path, pictures: Path) -> None:
    process = start(tiny_bundle, "--source", "-", "--json", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for colour in COLOURS:
        process.stdin.write(f"{pictures / colour}.png\n")
        process.stdin.flush()
        assert lines(process, 1)[0]["label"] == colour
    process.terminate()
    assert process.wait(20) == 0
    assert process.communicate() == ("", "")


def test_ctrl_c_ends_it_quietly_as_shells_expect(tiny_bundle: Path, pictures: Path) -> None:
    process = start(tiny_bundle, "--source", pictures, "--watch", "--json")
    lines(process, 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.communicate() == ("", "")


def test_a_closed_pipe_ends_it_quietly(tiny_bundle: Path, pictures: Path) -> None:
    process = start(tiny_bundle, "--source", "-", "--json", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{pictures}/red.png\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(f"{pictures}/red.png\n" * 2)
    process.stdin.close()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_record_of_changes_ends_with_a_summary(tiny_bundle: Path, pictures: Path) -> None:
    done = edgetl("run", tiny_bundle, "--source", pictures, "--changes", "--json")
    first, *_, last = map(json.loads, done.stdout.splitlines())
    assert first["label"] == "blue"
    assert last["summary"]["labels"] == dict.fromkeys(("blue", "green", "red"), 1)
    lines_of_text = edgetl("run", tiny_bundle, "--source", pictures, "--changes").stdout.splitlines()
    assert "3 images: blue 1, green 1, red 1; " in lines_of_text[-1]


def test_a_watched_folder_gives_new_pictures(tiny_bundle: Path, pictures: Path) -> None:
    process = start(tiny_bundle, "--source", pictures, "--watch", "--json")
    assert {line["label"] for line in lines(process, 3)} == set(COLOURS)
    Image.fromarray(colour_frame("red", 7)).save(pictures / "another.png")
    (line,) = lines(process, 1)
    assert line["label"] == "red"
    assert line["source"].endswith("another.png")
    process.terminate()
    assert process.wait(20) == 0


def test_a_video_is_classified_frame_by_frame(tiny_bundle: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with edgetl[camera]")
    clip = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(clip, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for colour in COLOURS:
        writer.write(np.ascontiguousarray(np.kron(colour_frame(colour, 1), np.ones((2, 2, 1), np.uint8))[..., ::-1]))
    writer.release()
    done = edgetl("run", tiny_bundle, "--source", f"camera:{clip}", "--json")
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == COLOURS
    assert done.stderr == ""


def test_a_label_runs_its_command_and_failures_are_reported(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    script = tmp_path / "hook.sh"
    script.write_text('#!/bin/sh\necho "$EDGETL_LABEL $1" >> "$2"\necho printed\nexit 4\n')
    script.chmod(0o755)
    hook = f"{script} {{source}} {tmp_path / 'record'}"
    done = edgetl("run", tiny_bundle, "--source", pictures, "--json", "--on-label", "red", hook)
    assert done.returncode == 0
    assert (tmp_path / "record").read_text() == f"red {pictures / 'red.png'}\n"
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
    assert "printed" in done.stderr
    assert "the command for 'red' ended with code 4" in done.stderr


def test_an_unknown_label_is_reported_before_the_run(tiny_bundle: Path, pictures: Path) -> None:
    done = edgetl("run", tiny_bundle, "--source", pictures, "--on-label", "pink", "true")
    assert done.returncode == 0
    assert "there is no class 'pink' yet; the classes are blue, green, red" in done.stderr


def test_a_fall_back_to_the_cpu_is_reported_once(tiny_bundle: Path, tiny_model: bytes, pictures: Path) -> None:
    shipped = open_bundle(tiny_bundle)
    entries = {name: shipped.read(name) for name in shipped.names}
    bundle = pack(pictures.parent / "tpu.edgetl", shipped.manifest, {**entries, EDGETPU_MODEL: tiny_model})
    done = edgetl("run", bundle, "--source", pictures)
    assert len(done.stdout.splitlines()) == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgetl: runs on the CPU: no Edge TPU can be used")


def test_a_terminal_gets_a_live_table_below_the_lines(tiny_bundle: Path, pictures: Path) -> None:
    shown = _in_terminal("run", str(tiny_bundle), "--source", str(pictures))
    assert all(f"{pictures / colour}.png: {colour} " in shown for colour in COLOURS)
    assert "probability" in shown
    assert "images per second" in shown
    assert "{" not in _in_terminal("run", str(tiny_bundle), "--source", str(pictures))
    assert "probability:" not in _in_terminal("run", str(tiny_bundle), "--source", str(pictures), "--json")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--source", "red.png", "--watch"], "--watch needs an existing folder"),
        (["--source", "-", "--only-new"], "--only-new needs --watch"),
        (["--source", ".", "--on-label", "red", "sh -c 'x"], "No closing quotation"),
        (["--source", ".", "--on-label", "red", "no-such-command"], "cannot find the command 'no-such-command'"),
        (["--source", "camera:99"], "cannot open a camera or video at '99'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    tiny_bundle: Path, pictures: Path, arguments: list[str], complaint: str
) -> None:
    done = edgetl("run", tiny_bundle, *arguments, cwd=pictures)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_the_current_step_finish(number: int, code: int) -> None:
    finished: list[int] = []
    with pytest.raises(SystemExit) as stopped:
        _take_steps([[], [number], []], finished)
    assert stopped.value.code == code
    assert finished == [0, 1]


def test_a_second_signal_does_not_wait() -> None:
    finished: list[int] = []
    with pytest.raises(SystemExit):
        _take_steps([[signal.SIGINT, signal.SIGINT]], finished)
    assert finished == []


def _take_steps(signals: list[list[int]], finished: list[int]) -> None:
    """One step for each list of signals, which come while it is taken."""
    with GracefulStop() as stop:
        for step, numbers in enumerate(signals):
            with stop.step():
                for number in numbers:
                    os.kill(os.getpid(), number)
                    time.sleep(0.01)
                finished.append(step)


def _in_terminal(*arguments: str) -> str:
    """What a verb writes where standard output is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    command = [sys.executable, "-m", "edgetl", *arguments]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # the other side was closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()
