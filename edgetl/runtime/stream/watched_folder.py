"""Hides how new pictures in a folder are noticed, on any file system; `edgetl run --watch` iterates over it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple, Union

from edgetl.errors import DataError
from edgetl.runtime.stream.sources import Source, find_images

POLL_SECONDS = 0.5
SETTLE_SECONDS = 2.0
"""A file is complete when its size and its time of change have stayed the same for so long."""


def watch(
    folder: Union[str, os.PathLike[str]],
    only_new: bool = False,
    poll_s: float = POLL_SECONDS,
    settle_s: float = SETTLE_SECONDS,
    on_look: Optional[Callable[[], object]] = None,
) -> Iterator[Source]:
    """The images below a folder as they become complete, for ever; with `only_new`, not those already there.

    A file that is still being written waits; one that is replaced or grows is given again; one that is deleted
    is forgotten. The folder is listed every `poll_s` seconds, because network file systems tell nobody what
    others wrote there, and it may be away for a while; `on_look` is called after each time. No clock but this
    process's own is relied on.
    Raises DataError where there is no such folder to begin with.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"there is no folder '{folder}' to watch; make it first")
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
        time.sleep(max(poll_s, took))  # listing a slow, large folder takes half of the time at most


_Signature = Tuple[int, int]


@dataclass
class _Sighting:
    """A file as it was when it was first seen so: its size and time of change, and whether it was given out."""

    signature: _Signature
    since: float
    is_taken: bool = False


class _Sightings:
    """What is known of every image below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: Dict[Path, _Sighting] = {}

    def update(self) -> None:
        """Looks at the folder; what cannot be listed just now is taken to be as it was."""
        failures: List[OSError] = []
        now = time.monotonic()
        found = {}
        for path in find_images(self._folder, failures.append):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                failures.append(error)
                continue
            found[path] = self._sighting(path, (status.st_size, status.st_mtime_ns), now)
        self._known = {**self._known, **found} if failures else found

    def take(self, settle_s: float) -> List[Path]:
        """The files that have not changed for so many seconds and were not taken before."""
        latest = time.monotonic() - settle_s
        complete = {
            path: sighting
            for path, sighting in self._known.items()
            if not sighting.is_taken and sighting.since <= latest
        }
        for sighting in complete.values():
            sighting.is_taken = True
        return list(complete)

    def _sighting(self, path: Path, signature: _Signature, now: float) -> _Sighting:
        before = self._known.get(path)
        return before if before is not None and before.signature == signature else _Sighting(signature, now)
