"""Copies the journal of the running bundle while the device keeps learning, so that a host can fetch the copy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Union

from edgetl.durable import make_folder
from edgetl.errors import LearningError, StorageError
from edgetl.runtime.device.slots import OUTGOING, Slots
from edgetl.runtime.learning import JOURNAL_FILE, read_contribution


@dataclass(frozen=True)
class Snapshot:
    """A copy of a journal."""

    file: str
    """The path of the copy."""
    sha256: str
    bundle: str
    """The digest of the bundle that the journal belongs to."""
    name: str
    """The name of that bundle."""
    pictures: int
    thumbnails: int
    """How many of the pictures have a thumbnail."""

    def to_dict(self) -> Dict[str, Any]:
        """The snapshot as a JSON object."""
        return asdict(self)


def take_snapshot(root: Union[str, os.PathLike[str]]) -> Snapshot:
    """Copies the journal of the running bundle into the outgoing folder.

    Raises LearningError if nothing was taught, StorageError.
    """
    slots = Slots(root)
    current = slots.current
    if current is None or not (current.state / JOURNAL_FILE).is_file():
        raise LearningError(f"nothing was taught to the running bundle in {slots.root}; there is nothing to pull")
    folder = slots.root / OUTGOING
    make_folder(folder)
    copy = folder / JOURNAL_FILE
    copy.unlink(missing_ok=True)
    _copy(current.state / JOURNAL_FILE, copy)
    taught = read_contribution(folder)
    return Snapshot(
        file=str(copy),
        sha256=hashlib.sha256(copy.read_bytes()).hexdigest(),
        bundle=current.digest,
        name=taught.identity["name"],
        pictures=len(taught.pictures),
        thumbnails=sum(picture.thumbnail is not None for picture in taught.pictures),
    )


def _copy(source: Path, target: Path) -> None:
    """Copies a database through SQLite, which includes exactly what was committed."""
    try:
        with contextlib.closing(sqlite3.connect(source)) as taught, contextlib.closing(sqlite3.connect(target)) as copy:
            taught.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # a single file, without a log beside it
    except sqlite3.Error as error:
        raise StorageError(f"cannot copy {source}: {error}; free some space, or check the folder") from error
