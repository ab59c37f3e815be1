"""Hides SQLite: the append-only journal of a state folder, which any process may write; the Learner calls it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from edgetl.durable import sync_folder
from edgetl.errors import LearningError, StorageError
from edgetl.runtime.learning.projection import Row

FILE = "journal.sqlite"
BUSY_SECONDS = 30.0
"""How long one process waits for another one's write."""


@dataclass(frozen=True)
class Draft:
    """A row to be: what `Row` holds, and what comes with a picture."""

    kind: str
    label: Optional[str] = None
    subject: Optional[int] = None
    former: Optional[str] = None
    origin: Optional[str] = None
    source: Optional[str] = None
    """The file it came from."""
    embedding: Optional[bytes] = None
    thumbnail: Optional[bytes] = None


class Note(NamedTuple):
    """What a row says only to people."""

    time: str
    source: Optional[str]
    has_thumbnail: bool


class Journal:
    """The journal of one state folder; the first write makes it.

    A committed row is on the disk (fsync) before `writing` ends; whatever kills the process leaves the rows
    that were committed, and no others. Where the folder cannot be written the journal is read as it is.
    Thread-safe. `identity` says what the state belongs to; without it, only a state that is there is read.
    Raises StorageError where the disk refuses, or the file is damaged; LearningError where the state belongs
    to something else.
    """

    def __init__(self, folder: Union[str, os.PathLike[str]], identity: Optional[Mapping[str, str]] = None) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self._identity = None if identity is None else {"format": _FORMAT, "device": os.urandom(8).hex(), **identity}
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._is_open = self._is_writable = False
        self._obstacle = _READ_ONLY
        self._seen_version = -1
        if not self._open_if_there() and identity is None:
            raise LearningError(f"there is no state in {self.folder}; teach something first: edgetl teach")

    def close(self) -> None:
        """Ends the use; the journal stays as it is."""
        with self._lock:
            self._is_open = False
            self._stack.close()

    @property
    def writable(self) -> bool:
        """Whether rows can be appended here."""
        if self._is_open:
            return self._is_writable
        there = next((folder for folder in (self.folder, *self.folder.parents) if folder.exists()), self.folder)
        return os.access(there, os.W_OK)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Excludes all other writers, in any process, until the block ends; what it appends comes whole or not."""
        with self._lock, self._guarded():
            if not self._open_if_there():
                self._create()
            if not self._is_there():
                raise StorageError(f"{self.path} was moved or removed while it was in use; start again")
            if not self._is_writable:
                self._reopen()
            if not self._is_writable:
                raise StorageError(f"cannot write {self.folder}: {self._obstacle}")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                raise

    def append(self, drafts: Sequence[Draft]) -> List[int]:
        """Adds rows that make one step, within `writing`; returns their ids."""
        first = self._writer.execute("SELECT coalesce(max(id), 0) + 1 FROM journal").fetchone()[0]
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        rows = [
            (
                first + number,
                first,
                now,
                draft.kind,
                draft.label,
                draft.subject,
                draft.former,
                draft.origin,
                draft.source,
                zlib.compress(draft.embedding, _COMPRESSION) if draft.embedding is not None else None,
                draft.thumbnail,
            )
            for number, draft in enumerate(drafts)
        ]
        self._writer.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return [row[0] for row in rows]

    def rows_after(self, position: int) -> List[Row]:
        """The rows with ids above `position`, in order."""
        columns = "id, step, kind, label, subject, former, origin"
        return [
            Row(*values)
            for values in self._query(f"SELECT {columns} FROM journal WHERE id > ? ORDER BY id", (position,))
        ]

    def notes(self) -> Dict[int, Note]:
        """What there is to say about every row, by id."""
        query = "SELECT id, time, source, thumbnail IS NOT NULL FROM journal"
        return {number: Note(time, source, bool(has)) for number, time, source, has in self._query(query)}

    def embeddings(self, pictures: Sequence[int]) -> Dict[int, bytes]:
        """The raw embeddings of pictures, by id."""
        return {number: _unpacked(self.path, number, data) for number, data in self._column("embedding", pictures)}

    def thumbnails(self, pictures: Sequence[int]) -> Dict[int, bytes]:
        """The thumbnails of those pictures that have one, by id."""
        return dict(self._column("thumbnail", pictures))

    def keep(self, name: str, position: int, data: bytes) -> None:
        """Stores what can be worked out again from the rows up to `position`; it need not survive a power cut."""
        with self._lock, self._guarded():
            if not self._is_open or not self._is_writable:
                return
            self._writer.execute("PRAGMA synchronous = NORMAL")
            try:
                self._writer.execute(_KEEP, (name, position, data))
            finally:
                self._writer.execute("PRAGMA synchronous = FULL")

    def kept(self, name: str, position: int) -> Optional[bytes]:
        """What was kept under a name, where it was worked out at this very position."""
        found = self._query("SELECT data FROM kept WHERE name = ? AND position = ?", (name, position))
        return found[0][0] if found else None

    def identity(self) -> Dict[str, str]:
        """What the state belongs to, and "device": a name that no other state has."""
        return dict(self._query("SELECT key, value FROM identity")) or dict(self._identity or {})

    def has_changed(self) -> bool:
        """Whether anything was committed, by whatever process, since this was last asked; takes microseconds.

        Only one thread at a time may ask; it never waits for one that writes.
        """
        if not self._is_open and not self._open_if_there():
            return False
        with self._guarded():
            version = self._watcher.execute("PRAGMA data_version").fetchone()[0]
        changed, self._seen_version = version != self._seen_version, version
        return bool(changed)

    def size_bytes(self) -> int:
        """What the state takes on the disk."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{FILE}*"))

    def _open_if_there(self) -> bool:
        with self._lock, self._guarded():
            if not self._is_open and self.path.is_file():
                self._open()
            return self._is_open

    def _create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {self.folder}: {(error.strerror or str(error)).lower()}") from error
        self._open()

    def _is_there(self) -> bool:
        """Whether the open file is the one that has its name: what is written to another one is lost."""
        try:
            return not self._is_open or os.path.samestat(self._file, self.path.stat())
        except OSError:
            return False

    def _reopen(self) -> None:
        """The disk may have been freed, or made writable, meanwhile."""
        self.close()
        self._open()

    def _open(self) -> None:
        self._obstacle, self._seen_version = _READ_ONLY, -1
        try:
            self._is_writable = os.access(self.folder, os.W_OK) and self._open_for_writing()
            if not self._is_writable:
                self._open_for_reading()
            if self._is_empty():  # a disk that is full let the file be made, and not filled: there is no state yet
                self._stack.close()
                return
            self._check_identity()
            self._file = self.path.stat()
        except BaseException:
            self._stack.close()
            raise
        self._is_open = True

    def _open_for_writing(self) -> bool:
        """False where the disk, the file system or its permissions do not let this process write."""
        try:
            self._writer = self._connect(self.path)
            self._write_ahead()
            self._writer.execute("PRAGMA synchronous = FULL")
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            self._writer.execute(f"PRAGMA journal_size_limit = {_WAL_PAGES * 4096}")
            self._writer.execute("BEGIN IMMEDIATE")
            self._fill_if_empty()
            self._writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if not self.path.is_file() or not _can_be_read(error):
                raise
            self._obstacle = _remedy(error)
            return False
        sync_folder(self.folder)
        self._watcher = self._connect(self.path)
        return True

    def _write_ahead(self) -> None:
        """Where another process is just making the file, SQLite does not wait: it says at once that it is locked."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _fill_if_empty(self) -> None:
        """A process that was killed while it made the file left it empty."""
        if self._identity is None or not self._is_empty():
            return
        for statement in _SCHEMA:
            self._writer.execute(statement)
        self._writer.executemany("INSERT INTO identity VALUES (?, ?)", self._identity.items())

    def _is_empty(self) -> bool:
        return not self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

    def _open_for_reading(self) -> None:
        """Reads in place where SQLite can; else a copy, into which it can recover what a crash left behind.

        Where nothing was left behind no copy is needed, for which a full disk would have no room.
        """
        uri, log = self.path.resolve().as_uri(), self.folder / f"{FILE}-wal"
        try:
            self._connect_to_read(f"{uri}?mode=ro")
        except sqlite3.OperationalError:
            if log.is_file() and log.stat().st_size:
                self._connect_to_read(self._copied(log) / FILE)
            else:
                self._connect_to_read(f"{uri}?immutable=1")

    def _copied(self, log: Path) -> Path:
        """The folder of a copy: in memory where there is no room for temporary files."""
        for place in (None, _IN_MEMORY):
            try:
                folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetl-state-", dir=place)))
                shutil.copyfile(self.path, folder / FILE)
                shutil.copyfile(log, folder / log.name)
                return folder
            except OSError as error:
                refusal = error
        raise StorageError(f"cannot copy {self.path} to read it: {refusal.strerror}; free some space") from refusal

    def _connect_to_read(self, path: Union[str, Path]) -> None:
        self._writer, self._watcher = self._connect(path), self._connect(path)
        self._is_empty()

    def _connect(self, path: Union[str, Path]) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=isinstance(path, str)
        )
        return self._stack.enter_context(contextlib.closing(connection))

    def _check_identity(self) -> None:
        known = dict(self._writer.execute("SELECT key, value FROM identity").fetchall())
        if known.get("format") != _FORMAT:
            found = known.get("format")
            raise StorageError(f"{self.path} has format {found!r}; this edgetl reads {_FORMAT}. Update it")
        for key, value in (self._identity or {}).items():
            if key != "device" and known.get(key) != value:
                raise LearningError(
                    f"what was taught in {self.folder} belongs to another bundle ({known.get('name')}); give that one, "
                    f"or carry it over: edgetl merge BUNDLE {self.folder} --state NEW_FOLDER"
                )

    def _column(self, name: str, pictures: Sequence[int]) -> Iterator[Tuple[int, bytes]]:
        for start in range(0, len(pictures), _IDS_AT_ONCE):
            chosen = pictures[start : start + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(chosen))
            query = f"SELECT id, {name} FROM journal WHERE {name} IS NOT NULL AND id IN ({marks})"
            yield from self._query(query, chosen)

    def _query(self, query: str, values: Sequence[Any] = ()) -> List[Any]:
        with self._lock, self._guarded():
            if not self._is_open and not self._open_if_there():
                return []
            return self._writer.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"cannot use {self.path}: {_remedy(error)}") from error


_FORMAT = "1"
_SCHEMA = (
    "CREATE TABLE identity (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE journal (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, time TEXT NOT NULL, kind TEXT NOT NULL, "
    "label TEXT, subject INTEGER, former TEXT, origin TEXT, source TEXT, embedding BLOB, thumbnail BLOB)",
    "CREATE TABLE kept (name TEXT PRIMARY KEY, position INTEGER NOT NULL, data BLOB NOT NULL)",
)
_KEEP = (
    "INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
    "SET position = excluded.position, data = excluded.data WHERE excluded.position >= position"
)
"""What another process has worked out from more rows stays."""
_READ_ONLY = "it is read-only here; choose another --state folder"
_IN_MEMORY = "/dev/shm"
_PAUSE_SECONDS = 0.01
_WAL_PAGES = 512
_IDS_AT_ONCE = 500
_COMPRESSION = 1
_EMBEDDING_LIMIT_BYTES = 1 << 18
"""The largest embedding that a manifest may name, in float32."""


def _unpacked(path: Path, number: int, data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _EMBEDDING_LIMIT_BYTES)
    except (zlib.error, TypeError) as error:
        raise StorageError(f"picture {number} in {path} is damaged; restore the file from a copy") from error


def _can_be_read(error: sqlite3.Error) -> bool:
    """Whether what hinders writing lets the journal be read."""
    return any(words in str(error) for words in ("readonly", "unable to open", "full", "disk I/O"))


def _remedy(error: sqlite3.Error) -> str:
    text = " ".join(str(error).split())
    remedies = {
        "full": "the disk is full; free some space. What was acknowledged is safe",
        "disk I/O": "the disk refuses to write; it may be full or broken. What was acknowledged is safe",
        "locked": f"another process has been writing for {BUSY_SECONDS:.0f} seconds; try again",
        "readonly": _READ_ONLY,
        "unable to open": "it cannot be opened; look at the folder's permissions",
        "malformed": "the file is damaged; restore it from a copy, or move it away to begin as shipped",
        "not a database": "the file is damaged; restore it from a copy, or move it away to begin as shipped",
    }
    return next((remedy for words, remedy in remedies.items() if words in text), text)
