"""The append-only journal of a state folder, in SQLite. Any number of processes may read and write it."""

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
from edgetl.runtime.learning.recovery import recover_if_damaged
from edgetl.text import for_sqlite, from_sqlite

JOURNAL_FILE = "journal.sqlite"
"""The name of the journal in a state folder."""
BUSY_SECONDS = 30.0
"""How long a process waits for another one's write."""


@dataclass(frozen=True)
class Draft:
    """A row that is not yet in the journal: the values of `Row`, and the data of a picture."""

    kind: str
    label: Optional[str] = None
    subject: Optional[int] = None
    former: Optional[str] = None
    origin: Optional[str] = None
    source: Optional[str] = None
    """The file that the picture or the merge came from."""
    embedding: Optional[bytes] = None
    """The raw output of the backbone."""
    thumbnail: Optional[bytes] = None
    """A JPEG file."""


class Note(NamedTuple):
    """Details of a row that only people read."""

    time: str
    source: Optional[str]
    has_thumbnail: bool


class Journal:
    """The journal of one state folder; the first write creates it. Thread-safe.

    A committed row is on the disk (fsync) before `writing` ends. A kill at any moment leaves the committed rows and
    no others. If the folder cannot be written, the journal is opened for reading.

    Args:
        folder: the state folder.
        identity: what the state belongs to; see `state.identity_of`. With it, a damaged journal is set aside, and its
            readable rows are recovered. Without it, an existing state is opened as it is.
        embedding_bytes: the size of a raw embedding of the bundle, if it is known.

    Raises:
        StorageError: the journal cannot be written, or is damaged.
        LearningError: the state belongs to another bundle; or, without `identity`, the folder has no state.
    """

    def __init__(
        self,
        folder: Union[str, os.PathLike[str]],
        identity: Optional[Mapping[str, str]] = None,
        embedding_bytes: Optional[int] = None,
    ) -> None:
        self.folder = Path(folder)
        self.path = self.folder / JOURNAL_FILE
        self._identity = None if identity is None else {"format": _FORMAT, "device": os.urandom(8).hex(), **identity}
        if self._identity is not None:
            recover_if_damaged(self.path, _SCHEMA, self._identity, embedding_bytes)
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._is_open = self._is_writable = False
        self._obstacle = _READ_ONLY
        self._seen_version = -1
        if not self._open_if_present() and identity is None:
            raise LearningError(f"there is no state in {self.folder}; teach something first: edgetl teach")

    def close(self) -> None:
        """Close the journal; the next access opens it again."""
        with self._lock:
            self._is_open = False
            self._stack.close()

    @property
    def writable(self) -> bool:
        """Whether rows can be appended here."""
        if self._is_open:
            return self._is_writable
        existing = next((folder for folder in (self.folder, *self.folder.parents) if folder.exists()), self.folder)
        return os.access(existing, os.W_OK)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude all other writers, in any process, during the block; all of its rows are committed, or none."""
        with self._lock, self._guarded():
            if not self._open_if_present():
                self._create()
            if not self._is_same_file():
                raise StorageError(f"{self.path} was moved or removed while it was open; restart the program")
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
        """Append the rows of one step, within `writing`; return their ids."""
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
                for_sqlite(draft.source),
                zlib.compress(draft.embedding, _COMPRESSION) if draft.embedding is not None else None,
                draft.thumbnail,
            )
            for number, draft in enumerate(drafts)
        ]
        self._writer.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return [row[0] for row in rows]

    def rows_after(self, position: int) -> List[Row]:
        """Return the rows with ids above `position`, in order."""
        columns = "id, step, kind, label, subject, former, origin"
        return [
            Row(*values)
            for values in self._query(f"SELECT {columns} FROM journal WHERE id > ? ORDER BY id", (position,))
        ]

    def notes(self) -> Dict[int, Note]:
        """Return the notes on every row, by id."""
        query = "SELECT id, time, source, thumbnail IS NOT NULL FROM journal"
        return {number: Note(time, from_sqlite(source), bool(has)) for number, time, source, has in self._query(query)}

    def embeddings(self, pictures: Sequence[int]) -> Dict[int, bytes]:
        """Return the raw embeddings of pictures, by id."""
        return {number: _unpacked(self.path, number, data) for number, data in self._column("embedding", pictures)}

    def thumbnails(self, pictures: Sequence[int]) -> Dict[int, bytes]:
        """Return the thumbnails of those pictures that have one, by id."""
        return dict(self._column("thumbnail", pictures))

    def keep(self, name: str, position: int, data: bytes) -> None:
        """Cache a result computed from the rows up to `position`; it need not survive a power cut."""
        with self._lock, self._guarded():
            if not self._is_open or not self._is_writable:
                return
            self._writer.execute("PRAGMA synchronous = NORMAL")
            try:
                self._writer.execute(_KEEP, (name, position, data))
            finally:
                self._writer.execute("PRAGMA synchronous = FULL")

    def kept(self, name: str, position: int) -> Optional[bytes]:
        """Return the cached result with this name, if it was computed at exactly this position."""
        found = self._query("SELECT data FROM kept WHERE name = ? AND position = ?", (name, position))
        return found[0][0] if found else None

    def identity(self) -> Dict[str, str]:
        """Return what the state belongs to, and "device", a random name that no other state has."""
        return dict(self._query("SELECT key, value FROM identity")) or dict(self._identity or {})

    def has_changed(self) -> bool:
        """Whether any process committed anything since the last call. Takes microseconds and never waits for a writer.

        Only one thread may call this at a time.
        """
        if not self._is_open and not self._open_if_present():
            return False
        with self._guarded():
            version = self._watcher.execute("PRAGMA data_version").fetchone()[0]
        changed, self._seen_version = version != self._seen_version, version
        return bool(changed)

    def size_bytes(self) -> int:
        """The size of the journal on the disk."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{JOURNAL_FILE}*"))

    def _open_if_present(self) -> bool:
        with self._lock, self._guarded():
            if not self._is_open and self.path.is_file():
                self._open()
            return self._is_open

    def _create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create {self.folder}: {(error.strerror or str(error)).lower()}") from error
        self._open()

    def _is_same_file(self) -> bool:
        """Whether the open file is still the one at its path; rows written to any other would be lost."""
        try:
            return not self._is_open or os.path.samestat(self._file, self.path.stat())
        except OSError:
            return False

    def _reopen(self) -> None:
        """Open again, in case the disk has become writable."""
        self.close()
        self._open()

    def _open(self) -> None:
        self._obstacle, self._seen_version = _READ_ONLY, -1
        try:
            self._is_writable = os.access(self.folder, os.W_OK) and self._open_for_writing()
            if not self._is_writable:
                self._open_for_reading()
            if self._is_empty():  # a full disk let the file be created but not filled: no state yet
                self._stack.close()
                return
            self._check_identity()
            self._file = self.path.stat()
        except BaseException:
            self._stack.close()
            raise
        self._is_open = True

    def _open_for_writing(self) -> bool:
        """Return False if the disk, the file system or its permissions do not let this process write."""
        try:
            self._writer = self._connect(self.path)
            self._enable_write_ahead_log()
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

    def _enable_write_ahead_log(self) -> None:
        """Retry, because SQLite does not wait here for another process that is just creating the file."""
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
        """Create the tables, unless another process has. A process killed while creating the file leaves it empty."""
        if self._identity is None or not self._is_empty():
            return
        for statement in _SCHEMA:
            self._writer.execute(statement)
        self._writer.executemany("INSERT INTO identity VALUES (?, ?)", self._identity.items())

    def _is_empty(self) -> bool:
        return not self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

    def _open_for_reading(self) -> None:
        """Open the file in place if SQLite can; otherwise a copy, in which it can recover what a crash left behind.

        If nothing was left behind, no copy is made: a full disk would have no space for it.
        """
        uri, log = self.path.resolve().as_uri(), self.folder / f"{JOURNAL_FILE}-wal"
        try:
            self._connect_to_read(f"{uri}?mode=ro")
        except sqlite3.OperationalError:
            if log.is_file() and log.stat().st_size:
                self._connect_to_read(self._copy_with(log) / JOURNAL_FILE)
            else:
                self._connect_to_read(f"{uri}?immutable=1")

    def _copy_with(self, log: Path) -> Path:
        """Copy the file and its log; return the folder. The copy is in memory if temporary files have no space."""
        for place in (None, _IN_MEMORY):
            try:
                folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetl-state-", dir=place)))
                shutil.copyfile(self.path, folder / JOURNAL_FILE)
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
        stored = dict(self._writer.execute("SELECT key, value FROM identity").fetchall())
        if stored.get("format") != _FORMAT:
            found = stored.get("format")
            raise StorageError(f"{self.path} has format {found!r}; this edgetl reads {_FORMAT}. Update edgetl")
        for key, value in (self._identity or {}).items():
            if key != "device" and stored.get(key) != value:
                raise LearningError(
                    f"the state in {self.folder} belongs to another bundle ({stored.get('name')}); use that bundle, "
                    f"or merge the state into a new one: edgetl merge BUNDLE {self.folder} --state NEW_FOLDER"
                )

    def _column(self, name: str, pictures: Sequence[int]) -> Iterator[Tuple[int, bytes]]:
        for start in range(0, len(pictures), _IDS_AT_ONCE):
            chosen = pictures[start : start + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(chosen))
            query = f"SELECT id, {name} FROM journal WHERE {name} IS NOT NULL AND id IN ({marks})"
            yield from self._query(query, chosen)

    def _query(self, query: str, values: Sequence[Any] = ()) -> List[Any]:
        with self._lock, self._guarded():
            if not self._is_open and not self._open_if_present():
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
"""A result that another process computed from more rows is not replaced."""
_READ_ONLY = "it is read-only here; choose another --state folder"
_IN_MEMORY = "/dev/shm"
_PAUSE_SECONDS = 0.01
_WAL_PAGES = 512
_IDS_AT_ONCE = 500
_COMPRESSION = 1
_EMBEDDING_LIMIT_BYTES = 1 << 18
"""The largest embedding that a manifest may declare, in float32."""


def _unpacked(path: Path, number: int, data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _EMBEDDING_LIMIT_BYTES)
    except (zlib.error, TypeError) as error:
        raise StorageError(f"picture {number} in {path} is damaged; restore the file from a copy") from error


def _can_be_read(error: sqlite3.Error) -> bool:
    """Whether the journal can still be read after this error on opening it for writing."""
    return any(words in str(error) for words in ("readonly", "unable to open", "full", "disk I/O"))


def _remedy(error: sqlite3.Error) -> str:
    text = " ".join(str(error).split())
    remedies = {
        "full": "the disk is full; free some space. Acknowledged steps are safe",
        "disk I/O": "the disk cannot be written; it may be full or broken. Acknowledged steps are safe",
        "locked": f"another process has been writing for {BUSY_SECONDS:.0f} seconds; try again",
        "readonly": _READ_ONLY,
        "unable to open": "it cannot be opened; check the folder's permissions",
        "malformed": "the file is damaged; restore it from a copy, or move it away to start as shipped",
        "not a database": "the file is damaged; restore it from a copy, or move it away to start as shipped",
    }
    return next((remedy for words, remedy in remedies.items() if words in text), text)
