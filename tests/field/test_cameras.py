"""Cameras that fall behind, hang, or give other formats than expected; hooks that fail; pictures that kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetl.errors import DataError, ImageError
from edgetl.runtime import Prediction
from edgetl.runtime.stream import Hooks, PictureInHand, RepeatedLines, camera, read_camera
from edgetl.runtime.stream.camera import CameraFrame
from edgetl.runtime.stream.frames import FrameConverter
from tests.cli.test_command_line import edgetl
from tests.models import colour_frame

cv2 = pytest.importorskip("cv2", reason="OpenCV comes with edgetl[camera]")


class Clock(BaseHTTPRequestHandler):
    """An MJPEG camera, 25 frames a second, whose brightness is the frame's number modulo 200."""

    sent = 0
    stall_after = 10**9

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            while True:
                stream = BytesIO()
                Image.new("RGB", (320, 240), (type(self).sent % 200,) * 3).save(stream, "JPEG")
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % stream.tell()
                self.wfile.write(head + stream.getvalue() + b"\r\n")
                type(self).sent += 1
                if type(self).sent > type(self).stall_after:
                    time.sleep(30)
                time.sleep(0.04)
        except OSError:
            return

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def network_camera() -> Iterator[tuple[str, type[Clock]]]:
    handler = type("Handler", (Clock,), {"sent": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"camera:http://127.0.0.1:{server.server_port}/video.mjpg", handler
    server.shutdown()


def test_a_slow_model_sees_the_newest_frame_of_a_network_camera(network_camera: tuple[str, type[Clock]]) -> None:
    address, server = network_camera
    behind = []
    frames = read_camera(address)
    for _ in range(8):
        frame = next(frames)
        assert isinstance(frame, CameraFrame)
        assert frame.age_ms() < 500
        behind.append((server.sent - round(float(frame.image.mean()))) % 200)  # type: ignore[union-attr]
        time.sleep(0.4)  # ten frames of the camera
    frames.close()  # type: ignore[attr-defined]
    assert max(behind[2:]) < 15, behind


def test_the_age_of_a_frame_is_printed(network_camera: tuple[str, type[Clock]], tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "edgetl", "run", str(tiny_bundle), "--source", network_camera[0], "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.terminate()
        assert process.wait(20) == 0
    assert all(0 < line["age_ms"] < 1000 for line in lines)


def test_a_camera_that_hangs_ends_with_one_line(network_camera: tuple[str, type[Clock]]) -> None:
    address, server = network_camera
    server.stall_after = 20
    with pytest.raises(DataError, match="gave no frame for 2 seconds"):
        for _ in read_camera(address, silence_s=2):
            pass


class FakeCapture:
    """A driver's frames, as OpenCV hands them on."""

    is_live = True
    name = "fake"

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.convert = FrameConverter((64, 48)).to_rgb
        self.is_closed = False

    def read(self) -> Any:
        time.sleep(0.01)
        if isinstance(self._frame, Exception):
            raise self._frame
        return self._frame

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("frame", [np.zeros((4, 5, 7), np.uint8), np.zeros((48, 64, 3), complex), "text"])
def test_a_camera_without_usable_frames_ends_with_one_line(monkeypatch: pytest.MonkeyPatch, frame: Any) -> None:
    shown = frame if isinstance(frame, np.ndarray) else SimpleNamespace(dtype="str", shape=())
    capture = FakeCapture(shown)
    monkeypatch.setattr(camera, "_OpenCV", lambda _: capture)
    with pytest.raises(DataError, match=r"gave only frames that cannot be used for 0\.2 seconds.*another format"):
        list(read_camera("camera:/dev/video0", silence_s=0.2))
    assert capture.is_closed


@pytest.mark.parametrize("error", [RuntimeError("select()\n timeout"), OSError(19, "No such device"), MemoryError()])
def test_what_a_driver_raises_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(camera, "_OpenCV", lambda _: FakeCapture(error))
    with pytest.raises(DataError, match=r"^the camera at 'fake' failed: [^\n]*; start again$"):
        list(read_camera("camera:/dev/video0"))


def gradient() -> np.ndarray:
    """Smooth RGB colours, (48, 64, 3)."""
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([rows * 3 + 50, columns * 2 + 60, 200 - columns * 2], axis=2).astype(np.uint8)


def yuyv(rgb: np.ndarray) -> np.ndarray:
    """(height, width, 2), by OpenCV's own conversion."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_YUY2)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("bgr", 0), ("bgra", 0), ("yuyv", 8), ("yuyv row", 8), ("bgr row", 0), ("jpeg", 12), ("bgr of 10 bits", 2)],
)
def test_frames_of_every_usual_format_become_rgb(name: str, tolerance: int) -> None:
    rgb = gradient()
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    frames = {
        "bgr": bgr,
        "bgra": np.dstack([bgr, np.full((48, 64), 255, np.uint8)]),
        "yuyv": yuyv(rgb),
        "yuyv row": yuyv(rgb).reshape(1, -1),
        "bgr row": bgr.reshape(1, -1),
        "jpeg": cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].reshape(1, -1),
        "bgr of 10 bits": (bgr.astype(np.uint16) << 2) | 3,
    }
    found = FrameConverter((64, 48)).to_rgb(frames[name])
    assert found is not None
    assert (found.dtype, found.shape) == (np.uint8, (48, 64, 3))
    assert np.abs(found.astype(int) - rgb).max() <= tolerance


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1)])
def test_a_dark_frame_of_a_12_bit_camera_stays_dark(shape: tuple[int, ...]) -> None:
    converter = FrameConverter((64, 48))
    bright, dark = converter.to_rgb(np.full(shape, 4095, np.uint16)), converter.to_rgb(np.full(shape, 300, np.uint16))
    assert bright is not None
    assert dark is not None
    assert (bright.max(), dark.max()) == (255, 19)


def seen(label: str, is_novel: bool = False) -> Prediction:
    return Prediction(label, 0.9, {label: 0.9}, 0.99 if is_novel else 0.2, is_novel, {"total": 1.0})


@pytest.mark.parametrize("on_novel", [False, True])
def test_a_frame_unlike_every_class_runs_no_command_unless_asked(tmp_path: Path, on_novel: bool) -> None:
    with Hooks([("cat", f"touch {tmp_path / 'fired'}")], print, on_novel=on_novel) as hooks:
        hooks.fire("camera#1", seen("cat", is_novel=True))
    assert (tmp_path / "fired").exists() is on_novel


def test_black_first_frames_run_no_command(tiny_bundle: Path, tmp_path: Path) -> None:
    clip = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(clip, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(5):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    done = edgetl("run", tiny_bundle, "--source", f"camera:{clip}", "--json")
    first = json.loads(done.stdout.splitlines()[0])
    hook = ("--on-label", first["label"], f"touch {tmp_path / 'fired'}")
    assert first["is_novel"], "the tiny model finds black unlike its colours"
    edgetl("run", tiny_bundle, "--source", f"camera:{clip}", *hook)
    assert not (tmp_path / "fired").exists()
    edgetl("run", tiny_bundle, "--source", f"camera:{clip}", *hook, "--on-novel")
    assert (tmp_path / "fired").exists()


def test_a_hook_that_always_fails_is_reported_once_and_counted() -> None:
    lines: list[str] = []
    with Hooks([("cat", "sh -c 'exit 3' {source}")], lines.append) as hooks:
        for number in range(20):
            hooks.fire(f"camera#{number}", seen("cat"))
    assert len(lines) == 2
    assert "ended with code 3" in lines[0]
    assert lines[1].endswith("(and 18 more like it)")


def test_the_same_line_is_reported_once_a_minute_with_a_count() -> None:
    lines: list[str] = []
    now = 0.0
    repeated = RepeatedLines(lines.append, every_s=60, clock=lambda: now)
    for second in range(150):
        now = float(second)
        repeated.add("select() timeout")
    repeated.add("another")
    repeated.finish()
    assert lines == [
        "select() timeout",
        "select() timeout (and 59 more like it)",
        "select() timeout (and 59 more like it)",
        "another",
        "select() timeout (and 28 more like it)",
    ]


@pytest.mark.parametrize("options", [(), ("--changes",), ("--changes", "--json")])
def test_a_stream_of_damaged_pictures_prints_few_lines(tiny_bundle: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "edgetl", "run", str(tiny_bundle), "--source", "-", *options]
    damaged = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" * 300
    done = subprocess.run(command, input=damaged, capture_output=True, check=False)
    assert done.returncode == 1
    assert len(done.stdout.splitlines() + done.stderr.splitlines()) <= 5


def killed_while_reading(folder: Path, picture: Path) -> None:
    """A process that is killed while it reads the picture."""
    code = (
        "import os, signal, sys; from pathlib import Path; from edgetl.runtime.stream import PictureInHand\n"
        "with PictureInHand(Path(sys.argv[1])).reading(Path(sys.argv[2])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(picture)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_picture_that_was_being_read_at_two_deaths_is_set_aside(teachable: Path, tmp_path: Path) -> None:
    pictures, state = tmp_path / "pictures", tmp_path / "state"
    pictures.mkdir()
    state.mkdir()
    for colour in ("red", "green"):
        Image.fromarray(colour_frame(colour, 1)).save(pictures / f"{colour}.png")
    run = ("run", teachable, "--source", pictures, "--state", state, "--json")
    killed_while_reading(state, pictures / "red.png")
    assert all("label" in json.loads(line) for line in edgetl(*run).stdout.splitlines())
    killed_while_reading(state, pictures / "red.png")
    answers = {Path(line["source"]).name: line for line in map(json.loads, edgetl(*run).stdout.splitlines())}
    assert "label" in answers["green.png"]
    assert "set aside, because edgetl was killed 2 times" in answers["red.png"]["error"]
    Image.fromarray(colour_frame("red", 2)).save(pictures / "red.png")
    assert all("label" in json.loads(line) for line in edgetl(*run).stdout.splitlines())


def test_a_damaged_or_locked_marker_hinders_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    picture.touch()
    for content in (b"", b"{", b"\xff" * 50, b"[1]", b'{"in_hand": 3, "deaths": [1]}', b'{"deaths": {"a": "b"}} rest'):
        (tmp_path / "in_hand.json").write_bytes(content)
        first = PictureInHand(tmp_path)
        second = PictureInHand(tmp_path)
        with first.reading(picture), second.reading(picture):
            assert json.loads((tmp_path / "in_hand.json").read_text())["in_hand"].startswith(str(picture))
        first.close()
        second.close()
    with PictureInHand(tmp_path / "missing").reading(picture), PictureInHand(None).reading(picture):
        pass


def test_an_error_while_reading_is_no_death(tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    picture.touch()
    for _ in range(4):
        guard = PictureInHand(tmp_path)
        with pytest.raises(ImageError, match="damaged"), guard.reading(picture):
            raise ImageError("damaged")
        guard.close()
    assert os.stat(tmp_path / "in_hand.json").st_mode & 0o077 == 0
