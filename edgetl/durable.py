"""Hides how a file is replaced so that a kill or a power cut leaves the old one or the whole new one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Callable, Union

from edgetl.errors import StorageError


def replace_file(path: Path, content: Union[bytes, Callable[[BinaryIO], None]], mode: int = 0o644) -> None:
    """Writes `content`, bytes or what writes them, beside `path`, then moves it there; both are on the disk then.

    Raises StorageError where the disk does not take it.
    """
    try:
        _write_beside_and_move(path, content, mode)
    except OSError as error:
        raise storage_error(path, error) from error


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Makes a folder, and those above it, where they are missing. Raises StorageError."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error


def sync_folder(folder: Path) -> None:
    """Makes sure that what was made, moved or removed in a folder is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot; the file itself is on the disk
            os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(path: Path, error: OSError) -> StorageError:
    """An error of the disk as one line that says what to do."""
    return StorageError(f"cannot write {path}: {_REMEDIES.get(error.errno or 0, error.strerror or str(error))}")


_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "you may not write there; choose another folder",
    errno.EPERM: "you may not write there; choose another folder",
    errno.ENOENT: "there is no such folder; make it first",
    errno.EISDIR: "it is a folder; give the name of a file",
}


def _write_beside_and_move(path: Path, content: Union[bytes, Callable[[BinaryIO], None]], mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=".edgetl-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_folder(path.parent)
