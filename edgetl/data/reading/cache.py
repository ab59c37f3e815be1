"""Caches the properties and embeddings of photos that were read before, in an SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from edgetl.errors import StorageError
from edgetl.runtime.system import cache_folder

CACHE_LIMIT_BYTES = 4 * 1024**3
"""Before a pass, a larger cache deletes the embeddings of the embedders that were used longest ago."""

THUMBNAIL_SIDE = 16
"""Width and height in pixels of the grey thumbnails by which photos are compared."""


class Traits(NamedTuple):
    """Properties of a photo: its upright size in pixels, and what the checks need."""

    width: int
    height: int
    rotated: bool
    grey: bool
    alpha: bool
    blank: bool
    thumbnail: bytes
    """THUMBNAIL_SIDE x THUMBNAIL_SIDE grey values."""


class Stamp(NamedTuple):
    """Identifies the content of a file without reading it: a file with an unchanged stamp has not changed."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    """Differs even if the program that changed the file restored its modification time."""


class Record(NamedTuple):
    """Everything that the cache stores about one photo."""

    stamp: Stamp
    digest: bytes
    traits: Traits
    embedding: Optional[bytes]


def open_cache_folder(folder: Optional[Path] = None) -> Path:
    """The cache folder, created if missing: by default EDGETL_CACHE, else $XDG_CACHE_HOME/edgetl, else ~/.cache/edgetl.

    Raises:
        StorageError: the folder cannot be created.
    """
    folder = folder or cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the cache folder {folder}: {error.strerror}; {_ELSEWHERE}") from error
    return folder


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file; raises OSError if the file cannot be accessed."""
    status = os.stat(path)
    return Stamp(os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class CacheReader:
    """Read access, one instance per thread. An entry that is missing, damaged or locked is not found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = False
        self._connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_SECONDS)

    def digest(self, stamp: Stamp) -> Optional[bytes]:
        """The content digest of the file with this stamp, if known."""
        row = self._row("SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?", stamp)
        return row[0] if row and isinstance(row[0], bytes) else None

    def traits(self, digest: bytes, frame_key: bytes) -> Optional[Traits]:
        """The traits of a photo with this content, decoded as `frame_key` describes, if known."""
        row = self._row(
            "SELECT width, height, flags, thumbnail FROM photos WHERE digest = ? AND frame_key = ?",
            (digest, frame_key),
        )
        thumbnail = _unseal(row[3], THUMBNAIL_SIDE**2) if row else None
        return None if thumbnail is None else Traits(row[0], row[1], *_flags(row[2]), thumbnail)

    def embedding(self, digest: bytes, embedder_key: bytes, size: int) -> Optional[bytes]:
        """The embedding of a photo with this content, `size` bytes, if known."""
        row = self._row(
            "SELECT embedding FROM embeddings WHERE digest = ? AND embedder_key = ?", (digest, embedder_key)
        )
        return _unseal(row[0], size) if row else None

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _row(self, query: str, values: Sequence[Any]) -> Any:
        try:
            return self._connection.execute(query, values).fetchone()
        except sqlite3.OperationalError:
            return None
        except sqlite3.DatabaseError:
            self.damaged = True
            return None


class Cache(CacheReader):
    """Read and write access to digests (by file stamp), traits (by content and decoding) and embeddings.

    A damaged file is replaced by an empty one, and `rebuilt` becomes True. Several processes may use one file.
    It does not grow beyond CACHE_LIMIT_BYTES plus what one pass adds.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_file(folder))
        self.rebuilt = False
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            raise self._storage_error(error) from error
        except sqlite3.DatabaseError:
            self._rebuild()

    def reader(self) -> CacheReader:
        """Read access for the calling thread."""
        return CacheReader(self.path)

    def use(self, embedder_key: bytes) -> None:
        """Call before a pass with this embedder: older entries of other embedders are deleted first."""
        self._write(lambda connection: connection.execute(_USE, (embedder_key,)))
        while self._bytes_in_use() > CACHE_LIMIT_BYTES and self._delete_oldest():
            pass

    def store(self, records: Sequence[Record], frame_key: bytes, embedder_key: Optional[bytes]) -> None:
        """Stores all of the records or none; raises StorageError if the disk is full."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(_STORE_FILE, [(*record.stamp, record.digest) for record in records])
            connection.executemany(_STORE_PHOTO, [_photo_row(record, frame_key) for record in records])
            connection.executemany(
                _STORE_EMBEDDING,
                [
                    (record.digest, embedder_key, _seal(record.embedding))
                    for record in records
                    if record.embedding is not None
                ],
            )

        self._write(insert)

    def store_embeddings(self, embeddings: Sequence[tuple[bytes, bytes]], embedder_key: bytes) -> None:
        """Stores all of these (content digest, embedding) pairs or none; raises StorageError if the disk is full."""
        rows = [(digest, embedder_key, _seal(embedding)) for digest, embedding in embeddings]
        self._write(lambda connection: connection.executemany(_STORE_EMBEDDING, rows))

    def _prepare(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # not supported on network drives, which work without it
            self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_TABLES)

    def _rebuild(self) -> None:
        self._connection.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._connection = sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT_SECONDS)
        self._prepare()
        self.damaged, self.rebuilt = False, True

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Makes the whole change or none of it; a damaged file is replaced first."""
        try:
            if self.damaged:
                self._rebuild()
            try:
                self._commit(change)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._rebuild()
                self._commit(change)
        except sqlite3.OperationalError as error:
            raise self._storage_error(error) from error

    def _commit(self, change: Callable[[sqlite3.Connection], object]) -> None:
        with self._connection as connection:
            change(connection)

    def _bytes_in_use(self) -> int:
        row = self._row(_BYTES_IN_USE, ())
        return row[0] if row else 0

    def _delete_oldest(self) -> bool:
        """Whether anything was deleted; SQLite reuses the space before its file grows."""
        before = self._connection.total_changes
        self._write(lambda connection: [connection.execute(statement) for statement in _DELETE_OLDEST])
        return self._connection.total_changes > before

    def _storage_error(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"cannot use the cache {self.path}: {error}; free some space on this disk, or {_ELSEWHERE}")


_ELSEWHERE = "set EDGETL_CACHE to a folder on another disk"
_LOCK_TIMEOUT_SECONDS = 60
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS photos (
    digest BLOB, frame_key BLOB, width INTEGER, height INTEGER, flags INTEGER, thumbnail BLOB,
    PRIMARY KEY (digest, frame_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS embeddings (
    digest BLOB, embedder_key BLOB, embedding BLOB, PRIMARY KEY (digest, embedder_key)
);
CREATE TABLE IF NOT EXISTS uses (embedder_key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
"""
_STORE_FILE = "REPLACE INTO files VALUES (?, ?, ?, ?, ?)"
_STORE_PHOTO = "REPLACE INTO photos VALUES (?, ?, ?, ?, ?, ?)"
_STORE_EMBEDDING = "REPLACE INTO embeddings VALUES (?, ?, ?)"
_USE = "REPLACE INTO uses SELECT ?, COALESCE(MAX(number), 0) + 1 FROM uses"
_BYTES_IN_USE = """
SELECT (page_count - freelist_count) * page_size
FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()
"""
_DELETE_OLDEST = (
    """
    DELETE FROM embeddings WHERE rowid IN (
        SELECT embeddings.rowid FROM embeddings LEFT JOIN uses USING (embedder_key)
        ORDER BY number, embeddings.rowid LIMIT (SELECT COUNT(*) / 4 + 1 FROM embeddings)
    )
    """,
    "DELETE FROM photos WHERE digest NOT IN (SELECT digest FROM embeddings)",
    "DELETE FROM files WHERE digest NOT IN (SELECT digest FROM photos)",
)
"""Deletes the least recently used quarter of the embeddings, then the photos that have none left."""


def _file(folder: Path) -> Path:
    """The cache file; its name contains the format version, so that a version never opens a file of another."""
    return folder / "photos-3.sqlite"


def _photo_row(record: Record, frame_key: bytes) -> tuple[Any, ...]:
    traits = record.traits
    flags = traits.rotated | traits.grey << 1 | traits.alpha << 2 | traits.blank << 3
    return record.digest, frame_key, traits.width, traits.height, flags, _seal(traits.thumbnail)


def _flags(packed: int) -> tuple[bool, bool, bool, bool]:
    return bool(packed & 1), bool(packed & 2), bool(packed & 4), bool(packed & 8)


def _seal(data: bytes) -> bytes:
    """Data followed by its checksum: SQLite does not notice a flipped bit inside a value."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def _unseal(sealed: Any, size: int) -> Optional[bytes]:
    """The data (`size` bytes) of `_seal`, or None if the checksum does not match."""
    if not isinstance(sealed, bytes) or len(sealed) != size + 4:
        return None
    data = sealed[:size]
    return data if _seal(data) == sealed else None
