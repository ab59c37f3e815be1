"""Measures for how long files have not changed, by the time that the machine was on and not by its clock.

A board without a battery for its clock starts in the past, and jumps forward when it finds a time server.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List

from edgetl.durable import replace_file
from edgetl.errors import StorageError


class UnchangedFor:
    """The files of a folder and how long each has not changed, as far as was seen; kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def older_than(self, seconds: float, files: Iterable[Path]) -> List[Path]:
        """Looks at the files now; returns those that have not changed for longer than `seconds`."""
        known, now, boot = self._read(), time.monotonic(), boot_id()
        seen: Dict[str, Any] = {}
        old: List[Path] = []
        for path in files:
            with contextlib.suppress(OSError):
                status = path.lstat()
                stamp = [status.st_ino, status.st_size, status.st_mtime_ns]
                age = _age(known.get(path.name), stamp, now, boot)
                seen[path.name] = {"stamp": stamp, "seconds": age, "boot": boot, "at": now}
                if age > seconds:
                    old.append(path)
        if seen != known:
            with contextlib.suppress(StorageError):  # a full disk must not block the install
                replace_file(self._path, json.dumps(seen).encode())
        return old

    def _read(self) -> Dict[str, Any]:
        try:
            known = json.loads(self._path.read_bytes())
            return known if isinstance(known, dict) else {}
        except (OSError, ValueError, RecursionError):
            return {}


def boot_id() -> str:
    """Differs between two boots of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _age(known: Any, stamp: List[int], now: float, boot: str) -> float:
    """The age so far, and the time since; after a reboot the time since the boot, which is the least that passed."""
    try:
        if known["stamp"] != stamp:
            return 0.0
        since = float(known["at"]) if known["boot"] == boot else 0.0
        return float(known["seconds"]) + max(0.0, now - since)
    except (KeyError, TypeError, ValueError):
        return 0.0
