"""Hides where decoded frames wait between uses: an unnamed file on disk, so that memory stays small."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgetl.errors import ImageError, StorageError
from edgetl.runtime import Preprocess


def read_frame(path: Path, digest: str, preprocess: Preprocess) -> np.ndarray:
    """The frame of a photo that was seen before, uint8 (height, width, 3).

    Raises ImageError where the file is gone or no longer has this SHA-256 in hex.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}; run again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ImageError(f"{path} has changed since it was checked; run again")
    return preprocess.frame(data)


class FrameStore:
    """Frames of one size, uint8 (height, width, 3), kept in a file and read in any order by any thread.

    The file has no name: the system frees it when the store is closed or collected, or its process dies.
    First frames are put into slots, then `select` says which are read.
    """

    def __init__(self, folder: Path, size: tuple[int, int], slots: int) -> None:
        self.shape = (*size, 3)
        """(height, width, 3) of every frame."""
        self._frame_bytes = size[0] * size[1] * 3
        self._folder = folder
        self._present = np.zeros(slots, bool)
        self._slots = np.empty(0, np.int64)
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._storage_error(error) from error

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> np.ndarray:
        """The frame, uint8 (height, width, 3); raises ImageError where it must be made and the photo is gone."""
        frame = np.empty(self.shape, np.uint8)
        self._read(index, frame)
        return frame

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Frames in the order asked for, uint8 (m, height, width, 3)."""
        frames = np.empty((len(indices), *self.shape), np.uint8)
        for frame, index in zip(frames, indices):
            self._read(int(index), frame)
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

    def select(self, slots: np.ndarray, missing: Callable[[int], np.ndarray]) -> None:
        """From now on frame i is the one in `slots[i]`; where none was put, `missing(i)` makes it when it is needed."""
        self._slots, self._missing = slots, missing

    def close(self) -> None:
        """Gives the disk space back."""
        self._file.close()

    def _read(self, index: int, frame: np.ndarray) -> None:
        slot = int(self._slots[index])
        if not self._present[slot]:
            self.put(slot, self._missing(index))
        read = os.preadv(self._file.fileno(), [frame.data], slot * self._frame_bytes)
        if read < self._frame_bytes:
            raise StorageError(f"a frame in {self._folder} could not be read back; check that disk, then run again")

    def _storage_error(self, error: OSError) -> StorageError:
        needed = len(self._present) * self._frame_bytes / 1e9
        return StorageError(
            f"cannot keep frames in {self._folder}: {(error.strerror or str(error)).lower()}; "
            f"free {needed:.1f} GB there, or set EDGETL_CACHE to a folder on another disk"
        )


class JoinedFrames:
    """Frames of several stores of one size, those of each following those of the one before."""

    def __init__(self, *stores: FrameStore) -> None:
        self._stores = stores
        self._ends = np.cumsum([len(store) for store in stores])

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Frames in the order asked for, uint8 (m, height, width, 3)."""
        return np.stack([self._frame(int(index)) for index in indices])

    def _frame(self, index: int) -> np.ndarray:
        at = int(np.searchsorted(self._ends, index, side="right"))
        store = self._stores[at]
        return store[index - int(self._ends[at]) + len(store)]
