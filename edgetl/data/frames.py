"""Hides where decoded frames wait between uses: an unnamed file on disk, so that memory stays small."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgetl.errors import StorageError


class FrameStore:
    """Frames of one size, uint8 (height, width, 3), kept in a file and read in any order by any thread.

    The file has no name: the system frees it when the store is closed or collected, or its process dies.
    A frame that nobody has put yet is made by `missing(slot)` when it is first asked for, and kept.
    """

    def __init__(self, folder: Path, size: tuple[int, int], slots: int, missing: Callable[[int], np.ndarray]) -> None:
        self.shape = (*size, 3)
        """(height, width, 3) of every frame."""
        self._frame_bytes = size[0] * size[1] * 3
        self._folder = folder
        self._missing = missing
        self._present = np.zeros(slots, bool)
        self._slots = np.arange(slots)
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._storage_error(error) from error

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> np.ndarray:
        """The frame, uint8 (height, width, 3); raises ImageError where it must be made and the photo is gone."""
        frame = np.empty(self.shape, np.uint8)
        self._read(int(self._slots[index]), frame)
        return frame

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Frames in the order asked for, uint8 (m, height, width, 3)."""
        frames = np.empty((len(indices), *self.shape), np.uint8)
        for frame, index in zip(frames, indices):
            self._read(int(self._slots[index]), frame)
        return frames

    def put(self, slot: int, frame: np.ndarray) -> None:
        """Keeps a frame in its slot; raises StorageError where the disk is full."""
        data = np.ascontiguousarray(frame).tobytes()
        try:
            written = os.pwrite(self._file.fileno(), data, slot * self._frame_bytes)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._storage_error(error) from error
        self._present[slot] = True

    def select(self, slots: np.ndarray) -> None:
        """From now on frame i is the one in `slots[i]`."""
        self._slots = np.asarray(slots)

    def close(self) -> None:
        """Gives the disk space back."""
        self._file.close()

    def _read(self, slot: int, frame: np.ndarray) -> None:
        if not self._present[slot]:
            self.put(slot, self._missing(slot))
        read = os.preadv(self._file.fileno(), [frame.data], slot * self._frame_bytes)
        if read < self._frame_bytes:
            raise StorageError(f"a frame in {self._folder} could not be read back; check that disk, then run again")

    def _storage_error(self, error: OSError) -> StorageError:
        needed = len(self._slots) * self._frame_bytes / 1e9
        return StorageError(
            f"cannot keep frames in {self._folder}: {(error.strerror or str(error)).lower()}; "
            f"free {needed:.1f} GB there, or set EDGETL_CACHE to a folder on another disk"
        )
