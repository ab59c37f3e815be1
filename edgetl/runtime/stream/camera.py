"""Hides which camera library is there and how its frames lie in memory; `edgetl run` iterates over a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional

import numpy as np

from edgetl.errors import DataError, MissingExtraError
from edgetl.runtime.stream.sources import Source

CAMERA = "camera"

FRAME_SIZE = (640, 480)
"""(width, height) in pixels that a Raspberry Pi camera is asked for: more than any model takes."""


def is_camera(source: str) -> bool:
    """Whether this names a camera: "camera", or "camera:" and which one."""
    return source.partition(":")[0] == CAMERA


def stream(source: str = CAMERA) -> Iterator[Source]:
    """The newest frames of a camera, uint8 (height, width, 3) RGB, each called SOURCE#NUMBER, until it is closed.

    `source` is "camera" for the first one, else "camera:X": X is a number, a device (/dev/video2), a video file or
    the address of a stream (rtsp://...). Numbers are looked for by picamera2 first, where it is installed, then by
    OpenCV. Raises MissingExtraError where neither is installed, DataError where no such camera opens, or, later,
    where it stops giving frames; a video file just ends.
    """
    address = source.partition(":")[2] or "0"
    frames = _open_picamera(int(address)) if address.isdigit() else None
    return _numbered(source, frames or _open_opencv(address))


def _numbered(source: str, frames: Iterator[np.ndarray]) -> Iterator[Source]:
    for number, frame in enumerate(frames, start=1):
        yield Source(f"{source}#{number}", frame)


def _open_picamera(number: int) -> Optional[Iterator[np.ndarray]]:
    """None where picamera2 cannot be imported, or knows no such camera: a USB one may still open with OpenCV."""
    try:
        from picamera2 import Picamera2
    except (ImportError, ValueError):  # ValueError: a package of the system's that was built for another numpy
        return None
    if number >= len(Picamera2.global_camera_info()):
        return None
    try:
        camera = Picamera2(number)
        # In libcamera's names the first letter is the highest byte: BGR888 lies in memory as R, G, B.
        camera.configure(camera.create_video_configuration(main={"size": FRAME_SIZE, "format": "BGR888"}))
        camera.start()
    except RuntimeError as error:
        raise DataError(f"camera {number} does not open; is another program using it? ({error})") from error
    return _picamera_frames(camera)


def _picamera_frames(camera: Any) -> Iterator[np.ndarray]:
    try:
        while True:
            yield camera.capture_array("main")
    finally:
        camera.close()


def _open_opencv(address: str) -> Iterator[np.ndarray]:
    try:
        import cv2
    except ImportError as error:
        package = "opencv-python-headless, or on a Raspberry Pi picamera2 (apt install python3-picamera2)"
        raise MissingExtraError(package, CAMERA, "a camera") from error
    capture = cv2.VideoCapture(int(address) if address.isdigit() else address)
    if not capture.isOpened():
        raise DataError(f"no camera or video opens at '{address}'; is it plugged in? See: ls /dev/video*")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # or a slow model would look at frames from seconds ago
    return _opencv_frames(cv2, capture, address)


def _opencv_frames(cv2: Any, capture: Any, address: str) -> Iterator[np.ndarray]:
    try:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if not Path(address).is_file():
        raise DataError(f"the camera at '{address}' gives no more frames; check its cable, and start again")
