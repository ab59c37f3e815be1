"""Sets a damaged journal aside, and copies the rows that can still be read to a new one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from edgetl.bundle import is_label
from edgetl.durable import replacing
from edgetl.errors import EdgetlError

SET_ASIDE = "journal.damaged-{}.sqlite"
"""The name of a journal that was set aside, with its number."""
_REPORT = ".json"
_LARGEST_EMBEDDING = 1 << 18


@dataclass(frozen=True)
class Recovery:
    """What became of a damaged journal."""

    file: str
    """The path of the damaged journal."""
    rows: int
    """The rows that were copied to the new journal."""
    fault: str
    """What was wrong with it."""


def recoveries(folder: Path) -> Tuple[Recovery, ...]:
    """The journals of a state folder that were set aside, the oldest first."""
    found: List[Recovery] = []
    for path in sorted(folder.glob(SET_ASIDE.format("*")), key=lambda path: (len(path.name), path.name)):
        try:
            found.append(Recovery(**json.loads(path.with_name(path.name + _REPORT).read_bytes())))
        except (OSError, ValueError, TypeError):
            found.append(Recovery(str(path), 0, "its report is missing"))
    return tuple(found)


def recover_if_damaged(
    path: Path, schema: Sequence[str], identity: Mapping[str, str], embedding_bytes: Optional[int]
) -> Optional[Recovery]:
    """Replaces a journal that is damaged by one with its readable rows; the damaged one keeps its content.

    Returns None if it is not damaged, or if the disk refuses.
    """
    if not path.is_file() or not find_fault(path, identity, embedding_bytes):
        return None
    with contextlib.suppress(OSError, EdgetlError), _locked(path.parent):
        fault = find_fault(path, identity, embedding_bytes)  # another process may have recovered it
        if fault:
            return _recover(path, schema, identity, embedding_bytes, fault)
    return None


def find_fault(path: Path, identity: Mapping[str, str], embedding_bytes: Optional[int]) -> str:
    """What is wrong with a journal; empty if nothing is, if it cannot be opened, or if it is not this bundle's."""
    try:
        with contextlib.closing(_opened(path)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return ""
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                return str(found).replace("\n", " ")
            stored = dict(connection.execute("SELECT key, value FROM identity").fetchall())
            if _is_foreign(stored, identity):
                return ""
            if any(stored.get(key) != value for key, value in identity.items() if key != "device"):
                return "what it belongs to cannot be read"
            for row in connection.execute("SELECT * FROM journal"):
                if not _is_intact(row, embedding_bytes):
                    return f"row {row[0]} cannot be read"
            return ""
    except sqlite3.Error as error:
        is_obstacle = any(words in str(error) for words in _OBSTACLES)
        return "" if is_obstacle else str(error).replace("\n", " ")
    except (ValueError, OverflowError) as error:
        return str(error).replace("\n", " ")


def _is_foreign(stored: Mapping[str, str], identity: Mapping[str, str]) -> bool:
    """Whether a journal is a later format's or another bundle's, whose digest differs in most digits: not by damage."""
    there, here = str(stored.get("bundle", "")), identity.get("bundle", "")
    is_other = len(there) == len(here) and 2 * sum(a == b for a, b in zip(there, here)) < len(here)
    return is_other or (str(stored.get("format")).isdigit() and stored["format"] != identity["format"])


_OBSTACLES = ("readonly", "unable to open", "full", "disk I/O", "locked")
"""Errors that say nothing about the content of the file."""


def _recover(
    path: Path,
    schema: Sequence[str],
    identity: Mapping[str, str],
    embedding_bytes: Optional[int],
    fault: str,
) -> Recovery:
    number = next(n for n in range(1, 1 << 30) if not path.with_name(SET_ASIDE.format(n)).exists())
    aside = path.with_name(SET_ASIDE.format(number))
    _copy(path, aside)
    with tempfile.TemporaryDirectory(prefix="edgetl-state-", dir=path.parent) as scratch:
        copy = Path(scratch) / path.name
        _copy(path, copy)
        rows, stored = _read_rows(copy, embedding_bytes)
    with replacing(path, mode=0o600) as fresh:
        _write(fresh, schema, {**identity, **stored}, rows)
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    recovery = Recovery(str(aside), len(rows), fault)
    with replacing(aside.with_name(aside.name + _REPORT), mode=0o600) as report:
        report.write_text(json.dumps(asdict(recovery)))
    sys.stderr.write(f"edgetl: {path} was damaged ({fault}); {len(rows)} rows were recovered. It was kept as {aside}\n")
    return recovery


def _copy(path: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.is_file():
            copy = target.with_name(target.name + suffix)
            shutil.copyfile(source, copy)
            copy.chmod(0o600)


def _read_rows(path: Path, embedding_bytes: Optional[int]) -> Tuple[List[Tuple[Any, ...]], Dict[str, str]]:
    """The intact rows of the journal, looked up one by one so that a bad page costs only its own; and the identity."""
    rows: List[Tuple[Any, ...]] = []
    stored: Dict[str, str] = {}
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(path)) as connection:
        stored = _read_identity(connection)
        limit = sum(file.stat().st_size for file in path.parent.iterdir()) // _SMALLEST_ROW_BYTES
        for number in range(1, limit + 1):
            with contextlib.suppress(sqlite3.Error, ValueError, OverflowError):
                row = connection.execute("SELECT * FROM journal WHERE id = ?", (number,)).fetchone()
                if row is not None and row[0] == number and _is_intact(row, embedding_bytes):
                    rows.append(row)
    return rows, stored


_SMALLEST_ROW_BYTES = 40
"""A row has at least a time of 25 characters, a kind, and a header."""


def _read_identity(connection: sqlite3.Connection) -> Dict[str, str]:
    for query in ("SELECT key, value FROM identity", "SELECT key, value FROM identity NOT INDEXED"):
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError):
            stored = dict(connection.execute(query).fetchall())
            if all(isinstance(text, str) for text in (*stored, *stored.values())):
                return {key: value for key, value in stored.items() if key in _KEPT_KEYS}
    return {}


_KEPT_KEYS = {"device"}
"""What the bundle does not say itself."""


def _write(path: Path, schema: Sequence[str], identity: Mapping[str, str], rows: List[Tuple[Any, ...]]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in schema:
            connection.execute(statement)
        connection.executemany("INSERT INTO identity VALUES (?, ?)", identity.items())
        connection.executemany(f"INSERT INTO journal VALUES ({', '.join('?' * _COLUMNS)})", rows)


_COLUMNS = 11


def _is_intact(row: Tuple[Any, ...], embedding_bytes: Optional[int]) -> bool:
    """Whether each column has its type, and an embedding its checksum and size."""
    number, step, time, kind, label, subject, former, origin, source, embedding, thumbnail = row
    return (
        all(isinstance(value, int) and value > 0 for value in (number, step))
        and all(isinstance(value, str) for value in (time, kind))
        and all(value is None or isinstance(value, str) for value in (label, former, origin))
        and (source is None or isinstance(source, (str, bytes)))  # bytes: a file name that is not UTF-8
        and (subject is None or isinstance(subject, int))
        and (thumbnail is None or isinstance(thumbnail, bytes))
        and (label is None or is_label(label))
        and (kind not in ("teach", "propose") or (label is not None and embedding is not None))
        and (embedding is None or _is_embedding(embedding, embedding_bytes))
    )


def _is_embedding(data: Any, size: Optional[int]) -> bool:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, _LARGEST_EMBEDDING + 1)
    except (zlib.error, TypeError):
        return False
    return unpacker.eof and (size is None or len(content) == size)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", timeout=30.0, isolation_level=None, uri=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
