"""Reads frames from a camera, newest first, with picamera2 or OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Optional

import numpy as np

from edgetl.errors import DataError, MissingExtraError
from edgetl.runtime.stream.sources import Source

CAMERA = "camera"

FRAME_SIZE = (640, 480)
"""(width, height) in pixels of the frames of a Raspberry Pi camera: more than any model needs."""


def is_camera(source: str) -> bool:
    """Whether the source is a camera: "camera" or "camera:X"."""
    return source.partition(":")[0] == CAMERA


def read_camera(source: str = CAMERA) -> Iterator[Source]:
    """Yields the newest frame of a camera again and again, uint8 (height, width, 3) RGB, named SOURCE#NUMBER.

    `source` is "camera" for the first camera, or "camera:X", where X is a number, a device (/dev/video2), a video file
    or the address of a stream (rtsp://...). A number is tried with picamera2 first, if it is installed, then with
    OpenCV. Closing the iterator closes the camera.
    Raises MissingExtraError if neither is installed; DataError if the camera does not open or, later, if it stops
    delivering frames. A video file ends the iteration.
    """
    address = source.partition(":")[2] or "0"
    frames = _open_picamera(int(address)) if address.isdigit() else None
    return _numbered(source, frames or _open_opencv(address))


def _numbered(source: str, frames: Iterator[np.ndarray]) -> Iterator[Source]:
    for number, frame in enumerate(frames, start=1):
        yield Source(f"{source}#{number}", frame)


def _open_picamera(number: int) -> Optional[Iterator[np.ndarray]]:
    """None if picamera2 is not installed or does not know the camera: OpenCV may open a USB camera."""
    try:
        from picamera2 import Picamera2
    except (ImportError, ValueError):  # ValueError: a system package built for another numpy
        return None
    if number >= len(Picamera2.global_camera_info()):
        return None
    try:
        camera = Picamera2(number)
        # libcamera names the highest byte first: BGR888 is R, G, B in memory.
        camera.configure(camera.create_video_configuration(main={"size": FRAME_SIZE, "format": "BGR888"}))
        camera.start()
    except RuntimeError as error:
        raise DataError(f"cannot open camera {number}: {error}; is another program using it?") from error
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
        raise DataError(f"cannot open a camera or video at '{address}'; is it plugged in? List them: ls /dev/video*")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # otherwise a slow model would see frames that are seconds old
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
        raise DataError(f"the camera at '{address}' stopped delivering frames; check its cable, and start again")
