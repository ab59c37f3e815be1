"""Sums up recent predictions for drift detection, and stores the sums in the state folder."""

from __future__ import annotations

import contextlib
import copy
import json
import sqlite3
import threading
import zlib
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Counter as CounterOf
from typing import Deque, Dict, Iterable, List, Optional

import numpy as np

from edgetl.learners import GRID, Window
from edgetl.runtime.inference.classifier import Prediction

OBSERVATIONS_FILE = "observed.sqlite"
"""The name of the file in a state folder."""
BLOCK_PICTURES, WINDOW_PICTURES = 20, 200
"""The pictures in a block, and in the window, which consists of the newest blocks."""
INTERVAL_SECONDS = 30.0
"""The time between two writes: the most that a kill can lose, and long enough to spare an SD card."""
STILL_COSINE = 0.98
"""A picture whose embedding has a larger cosine with the one before shows the same scene, and is not counted again."""


@dataclass
class Block:
    """Exact sums over some predictions by one last layer."""

    position: int
    """The id of the last row of the journal that the layer included."""
    sums: Dict[str, np.ndarray] = field(default_factory=dict)
    """By predicted label, (d,) int64, the sum of the fixed-point embeddings."""
    counts: CounterOf[str] = field(default_factory=Counter)
    novelty: float = 0.0
    confidence: float = 0.0

    def add(self, embedding: np.ndarray, prediction: Prediction) -> None:
        """Add a fixed-point embedding (d,) and its prediction."""
        self.sums[prediction.label] = self.sums.get(prediction.label, 0) + embedding.astype(np.int64)
        self.counts[prediction.label] += 1
        self.novelty += prediction.novelty
        self.confidence += prediction.probability

    @property
    def pictures(self) -> int:
        """The number of predictions."""
        return sum(self.counts.values())


class ObservationLog:
    """Sums up predictions, which takes microseconds each; a thread stores the sums every `INTERVAL_SECONDS`.

    Nothing is stored unless the state folder exists, and a disk error never disturbs prediction: of the blocks that
    cannot be stored, the oldest are dropped. A damaged file is deleted and started again. Thread-safe; any number of
    processes may write to the same state.

    Args:
        folder: the state folder.
        bundle: the bundle's digest.
        embedding_size: numbers in an embedding.
    """

    def __init__(self, folder: Path, bundle: str, embedding_size: int) -> None:
        self._path, self._bundle, self._size = folder / OBSERVATIONS_FILE, bundle, embedding_size
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._unstored: Deque[Block] = deque(maxlen=_MAX_UNSTORED)
        self._block: Optional[Block] = None
        self._last: Optional[np.ndarray] = None
        self._closed = threading.Event()

    def observe(self, embedding: np.ndarray, prediction: Prediction, position: int) -> None:
        """Add a fixed-point embedding (d,) and its prediction by a layer that includes the journal up to `position`."""
        row = embedding.astype(np.float32)
        with self._lock:
            if self._last is None:
                self._start()
            elif float(row @ self._last) > STILL_COSINE * GRID**2:
                return
            self._last = row
            block = self._block
            if block is None or block.position != position or block.pictures >= BLOCK_PICTURES:
                block = self._block = Block(position)
                self._unstored.append(block)
            block.add(embedding, prediction)

    def window(self, position: int) -> Optional[Window]:
        """The newest predictions, of all processes, by layers that include the journal up to `position`.

        None if there are no such predictions.
        """
        with self._writing:
            stored = self._stored(position)
            with self._lock:
                unstored = [copy.deepcopy(block) for block in self._unstored if block.position == position]
        return _window_of([*stored, *unstored])

    def flush(self, only_full: bool = False) -> None:
        """Store the blocks, or only the full ones; blocks that cannot be stored stay in memory."""
        with self._writing, contextlib.suppress(OSError):
            with self._lock:
                blocks = [block for block in self._unstored if block is not self._block or not only_full]
                if not only_full:
                    self._block = None
            if blocks and self._path.parent.is_dir() and self._store(blocks):
                with self._lock:
                    left = [block for block in self._unstored if all(block is not other for other in blocks)]
                    self._unstored = deque(left, maxlen=_MAX_UNSTORED)

    def close(self) -> None:
        """Store all blocks and end the thread."""
        self._closed.set()
        self.flush()

    def _start(self) -> None:
        threading.Thread(target=self._store_periodically, daemon=True).start()

    def _store_periodically(self) -> None:
        while not self._closed.wait(INTERVAL_SECONDS):
            self.flush(only_full=True)

    def _store(self, blocks: Iterable[Block]) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection, connection:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute(_SCHEMA)
                connection.executemany(_APPEND, (_row_of(block, self._bundle) for block in blocks))
                connection.execute(_PRUNE, (WINDOW_PICTURES,))
        except sqlite3.DatabaseError as error:
            if any(words in str(error) for words in _DAMAGED):
                self._path.unlink()
            return False
        return True

    def _stored(self, position: int) -> List[Block]:
        if not self._path.is_file():
            return []
        try:
            # Not mode=ro: SQLite could not roll back a write that a kill interrupted.
            uri = f"{self._path.resolve().as_uri()}?mode=rw"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                rows = connection.execute(_READ, (self._bundle, position, WINDOW_PICTURES)).fetchall()
            blocks = [_block_of(position, *row) for row in reversed(rows)]
            return [block for block in blocks if all(row.shape == (self._size,) for row in block.sums.values())]
        except (sqlite3.Error, zlib.error, ValueError, TypeError, AttributeError, OverflowError):
            return []


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS block (id INTEGER PRIMARY KEY, bundle TEXT, position INTEGER, sums BLOB, counts TEXT, "
    "novelty REAL, confidence REAL)"
)
_APPEND = "INSERT INTO block (bundle, position, sums, counts, novelty, confidence) VALUES (?, ?, ?, ?, ?, ?)"
_PRUNE = "DELETE FROM block WHERE id <= (SELECT max(id) FROM block) - ?"
_READ = "SELECT sums, counts, novelty, confidence FROM block WHERE bundle = ? AND position = ? ORDER BY id DESC LIMIT ?"
_BUSY_SECONDS = 5.0
_MAX_UNSTORED = WINDOW_PICTURES // BLOCK_PICTURES
_DAMAGED = ("malformed", "not a database")


def _row_of(block: Block, bundle: str) -> tuple[object, ...]:
    sums = np.stack([block.sums[label] for label in block.counts])
    data = zlib.compress(sums.astype("<i8").tobytes(), 1)
    return bundle, block.position, data, json.dumps(block.counts), block.novelty, block.confidence


def _block_of(position: int, sums: bytes, counts: str, novelty: float, confidence: float) -> Block:
    by_label = Counter({str(label): int(count) for label, count in json.loads(counts).items()})
    rows = np.array_split(np.frombuffer(zlib.decompress(sums), "<i8"), len(by_label))
    return Block(position, dict(zip(by_label, rows)), by_label, float(novelty), float(confidence))


def _window_of(blocks: List[Block]) -> Optional[Window]:
    """Combine the newest blocks, of at least WINDOW_PICTURES if there are as many."""
    newest: List[Block] = []
    for block in reversed(blocks):
        if sum(other.pictures for other in newest) < WINDOW_PICTURES:
            newest.append(block)
    if not newest:
        return None
    sums: Dict[str, np.ndarray] = {}
    for block in newest:
        for label, row in block.sums.items():
            sums[label] = sums.get(label, 0) + row
    return Window(
        counts=sum((block.counts for block in newest), Counter()),
        sums=sums,
        novelty=sum(block.novelty for block in newest),
        confidence=sum(block.confidence for block in newest),
    )
