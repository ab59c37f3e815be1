"""Stores decoded frames in an unnamed file on disk, so that memory use stays small."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgetl.data.reading.regular_file import read_regular_file
from edgetl.errors import ImageError, StorageError
from edgetl.runtime import Preprocess


def read_frame(path: Path, digest: str, preprocess: Preprocess) -> np.ndarray:
    """The frame of a photo that was read before, (height, width, 3) uint8.

    Raises:
        ImageError: the file is missing, or not a regular one, or its SHA-256, in hex, is no longer `digest`.
    """
    try:
        data = read_regular_file(path)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}; run again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ImageError(f"{path} has changed since it was checked; run again")
    frame: np.ndarray = preprocess.frame(data)
    return frame


class FrameStore:
    """Frames of one size, (height, width, 3) uint8, stored in a file and read in any order by any thread.

    The file has no name: the system frees it when the store is closed or garbage-collected, or the process ends.
    Frames are first stored by row, then `select` determines which rows can be read, and in what order.
    """

    def __init__(self, folder: Path, size: tuple[int, int], rows: int) -> None:
        self.shape = (*size, 3)
        """(height, width, 3) of every frame."""
        self._frame_bytes = size[0] * size[1] * 3
        self._folder = folder
        self._present = np.zeros(rows, bool)
        self._rows = np.empty(0, np.int64)
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._storage_error(error) from error

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        """The frame, (height, width, 3) uint8.

        Raises:
            ImageError: the frame was not stored and its photo can no longer be read.
            StorageError: the frame cannot be read from the disk or written to it.
        """
        frame = np.empty(self.shape, np.uint8)
        self._read(index, frame)
        return frame

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames of these indices, in their order, (m, height, width, 3) uint8."""
        frames = np.empty((len(indices), *self.shape), np.uint8)
        for frame, index in zip(frames, indices):
            self._read(int(index), frame)
        return frames

    def put(self, row: int, frame: np.ndarray) -> None:
        """Stores the frame of a row; raises StorageError if the disk is full."""
        data = np.ascontiguousarray(frame).tobytes()
        try:
            written = os.pwrite(self._file.fileno(), data, row * self._frame_bytes)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._storage_error(error) from error
        self._present[row] = True

    def select(self, rows: np.ndarray, missing: Callable[[int], np.ndarray]) -> None:
        """Makes frame i the one of `rows[i]`; `missing(i)` computes a frame that was not stored, when it is read."""
        self._rows, self._missing = rows, missing

    def close(self) -> None:
        """Frees the disk space."""
        self._file.close()

    def _read(self, index: int, frame: np.ndarray) -> None:
        row = int(self._rows[index])
        if not self._present[row]:
            self.put(row, self._missing(index))
        read = os.preadv(self._file.fileno(), [frame.data], row * self._frame_bytes)
        if read < self._frame_bytes:
            raise StorageError(f"a frame in {self._folder} could not be read back; check this disk and run again")

    def _storage_error(self, error: OSError) -> StorageError:
        needed = len(self._present) * self._frame_bytes / 1e9
        return StorageError(
            f"cannot store frames in {self._folder}: {(error.strerror or str(error)).lower()}; "
            f"free {needed:.1f} GB there, or set EDGETL_CACHE to a folder on another disk"
        )


class JoinedFrames:
    """The frames of several stores of one size, one store after the other."""

    def __init__(self, *stores: FrameStore) -> None:
        self._stores = stores
        self._ends = np.cumsum([len(store) for store in stores])

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames of these indices, in their order, (m, height, width, 3) uint8."""
        return np.stack([self._frame(int(index)) for index in indices])

    def _frame(self, index: int) -> np.ndarray:
        position = int(np.searchsorted(self._ends, index, side="right"))
        store = self._stores[position]
        return store[index - int(self._ends[position]) + len(store)]
