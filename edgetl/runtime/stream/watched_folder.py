"""Watches a folder for new images by polling, which works on every file system."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple, Union

from edgetl.errors import DataError
from edgetl.runtime.stream.sources import Source, find_files, looks_like_image

POLL_SECONDS = 0.5
SETTLE_SECONDS = 2.0
"""A file is complete when its size and modification time have not changed for this long."""


def watch(
    folder: Union[str, os.PathLike[str]],
    only_new: bool = False,
    poll_s: float = POLL_SECONDS,
    settle_s: float = SETTLE_SECONDS,
    on_look: Optional[Callable[[], object]] = None,
) -> Iterator[Source]:
    """Yields the images below a folder as they become complete, without end; with `only_new`, only new ones.

    A file that is still being written is delayed; one that is replaced or grows is yielded again; one that is deleted
    is forgotten. The folder is listed every `poll_s` seconds, because network file systems do not report the changes
    of other machines; it may disappear for a while. `on_look` is called after each listing. Only this process's clock
    is used, not that of the file server.
    Raises DataError if the folder does not exist at the start.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"cannot watch '{folder}': no such folder; make it first")
    return _follow(_Sightings(path), only_new, poll_s, settle_s, on_look or (lambda: None))


def _follow(
    sightings: _Sightings, only_new: bool, poll_s: float, settle_s: float, on_look: Callable[[], object]
) -> Iterator[Source]:
    if only_new:
        sightings.update()
        sightings.take(settle_s=0)
    while True:
        started = time.monotonic()
        sightings.update()
        took = time.monotonic() - started
        on_look()
        for path in sightings.take(settle_s):
            yield Source(str(path), path)
        time.sleep(max(poll_s, took))  # listing a large folder takes at most half of the time


_Signature = Tuple[int, int]


@dataclass
class _Sighting:
    """A file in one state: size and modification time, since when, and whether it was yielded."""

    signature: _Signature
    since: float
    is_taken: bool = False


class _Sightings:
    """The latest known state of every file below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: Dict[Path, _Sighting] = {}

    def update(self) -> None:
        """Lists the folder; what cannot be listed now is assumed to be unchanged."""
        failures: List[OSError] = []
        now = time.monotonic()
        current = {}
        for path in find_files(self._folder, failures.append):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                failures.append(error)
                continue
            if not stat.S_ISREG(status.st_mode):  # reading a named pipe would wait for ever
                continue
            current[path] = self._sighting(path, (status.st_size, status.st_mtime_ns), now)
        self._known = {**self._known, **current} if failures else current

    def take(self, settle_s: float) -> List[Path]:
        """The files that have not changed for `settle_s` seconds and were not taken before."""
        latest = time.monotonic() - settle_s
        complete = {
            path: sighting
            for path, sighting in self._known.items()
            if not sighting.is_taken and sighting.since <= latest
        }
        for sighting in complete.values():
            sighting.is_taken = True
        return [path for path in complete if looks_like_image(path)]

    def _sighting(self, path: Path, signature: _Signature, now: float) -> _Sighting:
        known = self._known.get(path)
        return known if known is not None and known.signature == signature else _Sighting(signature, now)
