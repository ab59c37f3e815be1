"""Converts the frames of OpenCV cameras, in the formats that drivers really give, to RGB."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from edgetl.errors import ImageError
from edgetl.runtime.inference.preprocess import decode


class FrameConverter:
    """Converts frames to uint8 (height, width, 3) RGB.

    `size` is the (width, height) that the camera reports, for frames that come as rows of bytes. It remembers the
    largest value of frames with more than 8 bits, because their range belongs to the camera and not to one frame.
    """

    def __init__(self, size: Tuple[int, int]) -> None:
        self._size = size
        self._largest = 255.0

    def to_rgb(self, frame: Any) -> Optional[np.ndarray]:
        """The frame in RGB, from BGR, BGRA, grey, YUYV (two channels or raw bytes) or JPEG bytes; None if unknown."""
        if not isinstance(frame, np.ndarray) or frame.size == 0:
            return None
        if frame.dtype == np.uint8 and frame.size > 3 and 1 in (frame.ndim, *frame.shape[:1]):
            return self._from_bytes(frame.reshape(-1))
        if frame.ndim == 2:
            frame = frame[:, :, np.newaxis]
        if frame.ndim != 3 or frame.shape[2] not in (1, 2, 3, 4):
            return None
        return self._from_channels(frame)

    def _from_channels(self, frame: np.ndarray) -> Optional[np.ndarray]:
        channels = frame.shape[2]
        if channels == 2:
            return _yuyv(frame) if frame.dtype == np.uint8 else None
        eight_bit = self._eight_bit(frame)
        if eight_bit is None:
            return None
        if channels == 1:
            return np.repeat(eight_bit, 3, axis=2)
        return np.ascontiguousarray(eight_bit[:, :, 2::-1])

    def _from_bytes(self, row: np.ndarray) -> Optional[np.ndarray]:
        width, height = self._size
        if row[:2].tobytes() == b"\xff\xd8":
            try:
                return np.asarray(decode(row.tobytes()))
            except ImageError:
                return None
        pixels = width * height
        if pixels <= 0 or row.size % pixels or row.size // pixels > 4:
            return None
        return self._from_channels(row.reshape(height, width, row.size // pixels))

    def _eight_bit(self, frame: np.ndarray) -> Optional[np.ndarray]:
        if frame.dtype == np.uint8:
            return frame
        if frame.dtype.kind == "f":
            values = np.nan_to_num(frame)
            scale = 255.0 if values.max() <= 1 else 1.0
        elif frame.dtype.kind in "ui":
            values = frame
            self._largest = max(self._largest, float(frame.max()))
            bits = max(8, int(self._largest).bit_length())
            scale = 255.0 / (2 ** (bits + bits % 2) - 1)  # sensors give 8, 10, 12, 14 or 16 bits
        else:
            return None
        return _rounded(values * scale)


def _yuyv(frame: np.ndarray) -> Optional[np.ndarray]:
    """YUYV (height, width, 2), by ITU-R BT.601 in video range."""
    if frame.shape[1] % 2:
        return None
    luma = (frame[:, :, 0].astype(np.float32) - 16) * (255 / 219)
    blue = np.repeat(frame[:, 0::2, 1], 2, axis=1).astype(np.float32) - 128
    red = np.repeat(frame[:, 1::2, 1], 2, axis=1).astype(np.float32) - 128
    rgb = np.stack([luma + 1.596 * red, luma - 0.813 * red - 0.392 * blue, luma + 2.017 * blue], axis=2)
    return _rounded(rgb)


def _rounded(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
