"""Hides how what a device was taught is copied whole while it goes on learning; a deployment pulls the copy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Dict, Union

from edgetl.durable import make_folder
from edgetl.errors import LearningError, StorageError
from edgetl.runtime.device.slots import OUTGOING, Slots
from edgetl.runtime.learning import JOURNAL_FILE, read_contribution


def take_snapshot(root: Union[str, os.PathLike[str]]) -> Dict[str, Any]:
    """Copies the journal of the bundle that runs; where the copy is, its SHA-256, and how many pictures it holds.

    Raises LearningError where nothing was taught, StorageError.
    """
    slots = Slots(root)
    current = slots.current
    if current is None or not (current.state / JOURNAL_FILE).is_file():
        raise LearningError(f"nothing was taught to what runs in {slots.root}; there is nothing to pull")
    folder = slots.root / OUTGOING
    make_folder(folder)
    copy = folder / JOURNAL_FILE
    copy.unlink(missing_ok=True)
    _copy(current.state / JOURNAL_FILE, copy)
    taught = read_contribution(folder)
    return {
        "file": str(copy),
        "sha256": hashlib.sha256(copy.read_bytes()).hexdigest(),
        "bundle": current.digest,
        "name": taught.identity["name"],
        "pictures": len(taught.pictures),
        "thumbnails": sum(picture.thumbnail is not None for picture in taught.pictures),
    }


def _copy(source: Path, target: Path) -> None:
    """By SQLite itself, so that the copy holds what was committed, and nothing else."""
    try:
        with contextlib.closing(sqlite3.connect(source)) as taught, contextlib.closing(sqlite3.connect(target)) as copy:
            taught.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise StorageError(f"cannot copy {source}: {error}; free some space, or look at the folder") from error
