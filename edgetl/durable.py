"""Replaces a file so that a crash or a power cut leaves either the old file or the complete new one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Optional, Union

from edgetl.errors import StorageError


def replace_file(
    path: Path,
    content: Union[bytes, Callable[[BinaryIO], object]],
    mode: int = 0o644,
    remedy: Optional[str] = None,
) -> None:
    """Writes a file beside `path`, then moves it there; on return the new file and its name are on the disk.

    `content` is the bytes, or a function that writes them to the open file. `remedy` replaces the usual advice in the
    message of a StorageError.

    Raises:
        StorageError: the file cannot be written; the old one is unchanged.
    """
    with replacing(path, mode, remedy) as beside:
        if isinstance(content, bytes):
            beside.write_bytes(content)
        else:
            with beside.open("wb") as file:
                content(file)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644, remedy: Optional[str] = None) -> Iterator[Path]:
    """Yields an empty file beside `path` to write to; at the end of the block it is moved there, as by `replace_file`.

    If the block raises, the new file is removed and the old one stays. An OSError in the block counts as a failure to
    write: handle others inside it.

    Raises:
        StorageError: the file cannot be written; the old one is unchanged.
    """
    beside: Optional[str] = None
    try:
        handle, beside = tempfile.mkstemp(prefix=".edgetl-", suffix=".part", dir=path.parent)
        os.close(handle)
        yield Path(beside)
        _flush(beside, mode)
        os.replace(beside, path)
        sync_folder(path.parent)
    except BaseException as error:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        if isinstance(error, OSError):
            raise storage_error(path, error, remedy) from error
        raise


def make_folder(folder: Path, mode: int = 0o755, remedy: Optional[str] = None) -> None:
    """Makes a folder and the missing ones above it. Raises StorageError, with `remedy` as in `replace_file`."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error, remedy) from error


def sync_folder(folder: Path) -> None:
    """Flushes a folder to the disk: what was created, moved or removed in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not support it; the file itself is flushed
            os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(path: Path, error: OSError, remedy: Optional[str] = None) -> StorageError:
    """The StorageError for an OSError: one line with the reason and what to do, which is `remedy` where given."""
    reason, usual_remedy = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    return StorageError("; ".join(filter(None, [f"cannot write {path}: {reason}", remedy or usual_remedy])))


_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.EACCES: ("you may not write there", "choose another folder"),
    errno.EPERM: ("you may not write there", "choose another folder"),
    errno.ENOENT: ("there is no such folder", "make it first"),
    errno.EISDIR: ("it is a folder", "give the name of a file"),
}
"""By error number: the reason, and the usual remedy."""


def _flush(name: str, mode: int) -> None:
    handle = os.open(name, os.O_RDWR)
    try:
        os.fchmod(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)
