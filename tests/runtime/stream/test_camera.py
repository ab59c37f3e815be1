"""Frames come as RGB from either camera library; a missing camera is one clear line."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from edgetl.errors import DataError, MissingExtraError
from edgetl.runtime.stream.camera import FRAME_SIZE, is_camera, read_camera

SIZE = (64, 48)
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of a red, a green and a blue frame."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with edgetl[camera]")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE)
    for colour in COLOURS:
        writer.write(np.full((SIZE[1], SIZE[0], 3), colour[::-1], np.uint8))
    writer.release()
    return path


def test_a_video_gives_its_frames_in_rgb_and_ends(clip: Path) -> None:
    frames = list(read_camera(f"camera:{clip}"))
    assert [frame.name for frame in frames] == [f"camera:{clip}#{number}" for number in (1, 2, 3)]
    for frame, colour in zip(frames, COLOURS):
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (SIZE[1], SIZE[0], 3)
        assert np.abs(frame.image.mean(axis=(0, 1)) - colour).max() < 10


@pytest.mark.parametrize("address", ["99", "/dev/none", "none.avi"])
def test_a_camera_that_does_not_open_is_named(address: str) -> None:
    pytest.importorskip("cv2", reason="OpenCV comes with edgetl[camera]")
    with pytest.raises(DataError, match=f"cannot open a camera or video at '{address}'"):
        read_camera(f"camera:{address}")


def test_without_any_camera_library_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(MissingExtraError, match=r"python3-picamera2.*pip install 'edgetl\[camera\]'"):
        read_camera()


class FakePicamera2:
    """What the real one does here, which runs only beside libcamera on a Raspberry Pi."""

    closed = 0

    def __init__(self, number: int) -> None:
        if number == 1:
            raise RuntimeError("Camera __init__ sequence did not complete.")

    @staticmethod
    def global_camera_info() -> list[dict[str, str]]:
        return [{"Model": "imx708"}, {"Model": "imx219"}]

    def create_video_configuration(self, main: dict[str, object]) -> dict[str, object]:
        return main

    def configure(self, main: dict[str, object]) -> None:
        assert main["format"] == "BGR888"
        self.width, self.height = main["size"]  # type: ignore[misc]

    def start(self) -> None:
        self.started = True

    def capture_array(self, name: str) -> np.ndarray:
        assert name == "main"
        assert self.started
        return np.zeros((self.height, self.width, 3), np.uint8)

    def close(self) -> None:
        FakePicamera2.closed += 1


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> None:
    module: ModuleType = SimpleNamespace(Picamera2=FakePicamera2)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "picamera2", module)


@pytest.mark.usefixtures("picamera2")
def test_a_raspberry_pi_camera_is_preferred_and_closed_at_the_end() -> None:
    frames = read_camera("camera")
    assert [frame.image.shape for frame in islice(frames, 2)] == [(*FRAME_SIZE[::-1], 3)] * 2
    before = FakePicamera2.closed
    del frames
    assert FakePicamera2.closed == before + 1


@pytest.mark.usefixtures("picamera2")
def test_a_camera_in_use_says_so() -> None:
    with pytest.raises(DataError, match=r"cannot open camera 1: .*is another program using it"):
        read_camera("camera:1")


@pytest.mark.usefixtures("picamera2")
def test_a_camera_that_picamera2_does_not_know_is_left_to_opencv() -> None:
    pytest.importorskip("cv2", reason="OpenCV comes with edgetl[camera]")
    with pytest.raises(DataError, match="at '7'"):
        read_camera("camera:7")


def test_only_the_word_camera_names_a_camera() -> None:
    assert is_camera("camera")
    assert is_camera("camera:2")
    assert not is_camera("./camera")
    assert not is_camera("cameras")
