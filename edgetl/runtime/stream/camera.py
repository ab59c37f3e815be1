"""Reads frames from a camera, newest first, with picamera2 or OpenCV."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Tuple

import numpy as np

from edgetl.errors import DataError, MissingExtraError
from edgetl.runtime.stream.frames import FrameConverter
from edgetl.runtime.stream.sources import Source

CAMERA = "camera"

FRAME_SIZE = (640, 480)
"""(width, height) in pixels of the frames of a Raspberry Pi camera: more than any model needs."""

SILENCE_SECONDS = 30.0
"""A camera that gives no usable frame for this long has failed."""


class CameraFrame(Source):
    """A frame of a live camera, which knows when it arrived."""

    arrived_at: float
    """When the frame was read from the camera, by `time.monotonic`, in seconds."""

    def age_ms(self) -> float:
        """The milliseconds since the frame was read from the camera."""
        return 1000 * (time.monotonic() - self.arrived_at)


def is_camera(source: str) -> bool:
    """Whether the source is a camera: "camera" or "camera:X"."""
    return source.partition(":")[0] == CAMERA


def read_camera(source: str = CAMERA, silence_s: float = SILENCE_SECONDS) -> Iterator[Source]:
    """Yields the newest frame of a camera again and again, uint8 (height, width, 3) RGB, named SOURCE#NUMBER.

    `source` is "camera" for the first camera, or "camera:X", where X is a number, a device (/dev/video2), a video file
    or the address of a stream (rtsp://...). A number is tried with picamera2 first, if it is installed, then with
    OpenCV. A live camera is read all the time in a thread, and its frames are a `CameraFrame`; frames that come while
    the model runs are dropped, so that no frame is older than one run of it. Frames in YUYV, grey or more than 8 bits
    are converted; others are skipped. Closing the iterator closes the camera.
    Raises MissingExtraError if neither is installed; DataError if the camera does not open or, later, if it stops
    or gives no usable frame for `silence_s` seconds. A video file ends the iteration.
    """
    address = source.partition(":")[2] or "0"
    capture = _open_picamera(int(address)) if address.isdigit() else None
    capture = capture or _OpenCV(address)
    return _live(source, capture, silence_s) if capture.is_live else _all_frames(source, capture)


class _Picamera:
    """A Raspberry Pi camera, which waits for the next frame by itself."""

    is_live = True

    def __init__(self, camera: Any, number: int) -> None:
        self._camera = camera
        self.name = str(number)
        self.frame_size: Tuple[int, int] = FRAME_SIZE

    def read(self) -> Optional[np.ndarray]:
        frame: np.ndarray = self._camera.capture_array("main")
        return frame

    def convert(self, frame: np.ndarray) -> Optional[np.ndarray]:
        usable = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] in (3, 4)
        return np.ascontiguousarray(frame[:, :, :3]) if usable else None

    def close(self) -> None:
        self._camera.close()


def _open_picamera(number: int) -> Any:
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
    return _Picamera(camera, number)


class _OpenCV:
    """A USB camera, a network stream or a video file."""

    def __init__(self, address: str) -> None:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")  # only fatal errors: damaged packets would fill a log
        try:
            import cv2
        except ImportError as error:
            package = "opencv-python-headless, or on a Raspberry Pi picamera2 (apt install python3-picamera2)"
            raise MissingExtraError(package, CAMERA, "a camera") from error
        self._error = cv2.error
        self._capture = cv2.VideoCapture(int(address) if address.isdigit() else address)
        if not self._capture.isOpened():
            raise DataError(
                f"cannot open a camera or video at '{address}'; is it plugged in? List them: ls /dev/video*"
            )
        self.name = address
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.is_live = not Path(address).is_file() and not ("://" in address and frames > 0)
        if self.is_live:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        size = self._capture.get(cv2.CAP_PROP_FRAME_WIDTH), self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        self.convert: Callable[[Any], Optional[np.ndarray]] = FrameConverter((int(size[0]), int(size[1]))).to_rgb

    def read(self) -> Optional[np.ndarray]:
        try:
            is_read, frame = self._capture.read()
        except self._error as error:
            raise DataError(f"the camera at '{self.name}' failed: {_one_line(error)}; start again") from error
        return frame if is_read else None

    def close(self) -> None:
        self._capture.release()


def _all_frames(source: str, capture: Any) -> Iterator[Source]:
    """Every frame of a video, in order."""
    number = 0
    try:
        while True:
            frame = capture.read()
            if frame is None:
                return
            rgb = capture.convert(frame)
            if rgb is not None:
                number += 1
                yield Source(f"{source}#{number}", rgb)
    finally:
        capture.close()


def _live(source: str, capture: Any, silence_s: float) -> Iterator[Source]:
    reader = _NewestFrame(capture)
    number, usable_at = 0, time.monotonic()
    try:
        while True:
            raw, arrived_at = reader.next(silence_s)
            rgb = capture.convert(raw)
            if rgb is None:
                if time.monotonic() - usable_at > silence_s:
                    raise DataError(_unusable(capture.name, raw, silence_s))
                continue
            number += 1
            frame = CameraFrame(f"{source}#{number}", rgb)
            frame.arrived_at = arrived_at
            yield frame
            usable_at = time.monotonic()
    finally:
        reader.close()


class _NewestFrame:
    """Reads a camera in a thread and keeps only its newest frame."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._frame: Optional[Tuple[np.ndarray, float]] = None
        self._failure: Optional[BaseException] = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._read, name="edgetl-camera", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Tuple[np.ndarray, float]:
        """The newest frame that was not returned before, and when it arrived. Raises DataError."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._failure is not None, timeout_s)
            frame, self._frame = self._frame, None
        if frame is not None:
            return frame
        name = self._capture.name
        if self._failure is None:
            raise DataError(
                f"the camera at '{name}' gave no frame for {timeout_s:g} seconds; check its cable or network"
            )
        if isinstance(self._failure, DataError):
            raise self._failure
        raise DataError(f"the camera at '{name}' failed: {_one_line(self._failure)}; start again") from self._failure

    def close(self) -> None:
        """Ends the thread, which closes the camera; a camera that hangs is left to the end of the process."""
        self._is_closed = True
        self._thread.join(5)

    def _read(self) -> None:
        try:
            while not self._is_closed:
                frame = self._capture.read()
                if frame is None:
                    name = self._capture.name
                    raise DataError(
                        f"the camera at '{name}' stopped delivering frames; check its cable, and start again"
                    )
                self._put((frame, time.monotonic()), None)
        except Exception as error:  # whatever a driver raises belongs to the reader of the frames
            self._put(None, error)
        finally:
            self._capture.close()

    def _put(self, frame: Optional[Tuple[np.ndarray, float]], failure: Optional[BaseException]) -> None:
        with self._changed:
            self._frame, self._failure = frame or self._frame, failure
            self._changed.notify()


def _unusable(name: str, frame: np.ndarray, silence_s: float) -> str:
    return (
        f"the camera at '{name}' gave only frames that cannot be used for {silence_s:g} seconds "
        f"({frame.dtype} {frame.shape}); choose another format, e.g. v4l2-ctl --set-fmt-video=pixelformat=MJPG"
    )


def _one_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error))[:200] or type(error).__name__
