"""Remembers which picture is being read, and sets aside one that was being read when the process was killed twice."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from edgetl.errors import ImageError

MARKER = "in_hand.json"
DEATHS_LIMIT = 2
"""A picture is set aside after so many deaths; one death may have another cause."""
REMEMBERED_LIMIT = 100
"""Pictures whose deaths are remembered, the newest."""


class PictureInHand:
    """A small file in `folder` that names the picture being read, so that the next process knows what killed this one.

    Nothing is remembered without a folder, on a disk that cannot be written, and while another process uses the file.
    """

    def __init__(self, folder: Optional[Path]) -> None:
        self._path = folder / MARKER if folder is not None else None
        self._file = _open_locked(self._path) if self._path is not None else None
        self._deaths: Dict[str, int] = {}
        if self._file is not None:
            self._count_deaths(_read(self._file))

    @contextlib.contextmanager
    def reading(self, image: object) -> Iterator[None]:
        """A block that reads a picture; only a path is remembered.

        Raises ImageError if the process was killed twice while it read this picture.
        """
        key = _key(image) if self._file is not None and isinstance(image, Path) else None
        if key is None:
            yield
            return
        deaths = self._deaths.get(key, 0)
        if deaths >= DEATHS_LIMIT:
            raise ImageError(
                f"cannot read {image}: set aside, because edgetl was killed {deaths} times while reading it; "
                f"replace it, or delete {self._path} to try again"
            )
        self._write(key)
        try:
            yield
        finally:
            self._write(None)

    def close(self) -> None:
        """Let another process use the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _count_deaths(self, content: Dict[str, Any]) -> None:
        deaths = content.get("deaths")
        if isinstance(deaths, dict):
            self._deaths = {str(key): count for key, count in deaths.items() if isinstance(count, int)}
        in_hand = content.get("in_hand")
        if isinstance(in_hand, str):
            self._deaths[in_hand] = self._deaths.pop(in_hand, 0) + 1
            self._deaths = dict(list(self._deaths.items())[-REMEMBERED_LIMIT:])
        if in_hand is not None:
            self._write(None)

    def _write(self, in_hand: Optional[str]) -> None:
        """Not flushed to the disk: the process may be killed at every picture, the machine is not."""
        if self._file is None:
            return
        data = json.dumps({"in_hand": in_hand, "deaths": self._deaths}).encode("ascii")
        with contextlib.suppress(OSError):
            os.pwrite(self._file, data, 0)
            os.ftruncate(self._file, len(data))


def _open_locked(path: Path) -> Optional[int]:
    import fcntl  # not on Windows, where no device runs

    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _read(file: int) -> Dict[str, Any]:
    try:
        # The file may be longer than its content, if the process was killed before it was cut.
        content, _ = json.JSONDecoder().raw_decode(os.pread(file, 1_000_000, 0).decode("ascii"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _key(image: Path) -> Optional[str]:
    """The path with size and modification time: a picture that was replaced is another one."""
    try:
        status = image.stat()
    except OSError:
        return None
    return f"{image.absolute()}|{status.st_size}|{status.st_mtime_ns}"
