"""Hides what is remembered of the pictures classified of late, and how it survives; a Learner's classifier feeds it."""

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

FILE = "observed.sqlite"
BLOCK_PICTURES, WINDOW_PICTURES = 20, 200
"""Pictures are summed up by blocks; the window is the newest blocks of so many pictures."""
INTERVAL_SECONDS = 30.0
"""Between two writes: what a kill may take with it, and what spares the card."""
STILL_COSINE = 0.98
"""A picture whose embedding is nearer than this to the one before is the same scene, and does not count again."""


@dataclass
class Block:
    """Exact sums over some predictions that one last layer made."""

    position: int
    """The last row of the journal that the layer knew."""
    sums: Dict[str, np.ndarray] = field(default_factory=dict)
    """By predicted label, (d,) int64, of the embeddings on the grid."""
    counts: CounterOf[str] = field(default_factory=Counter)
    novelty: float = 0.0
    confidence: float = 0.0

    def add(self, grid: np.ndarray, prediction: Prediction) -> None:
        """Takes in an embedding (d,) on the grid and what was predicted of it."""
        self.sums[prediction.label] = self.sums.get(prediction.label, 0) + grid.astype(np.int64)
        self.counts[prediction.label] += 1
        self.novelty += prediction.novelty
        self.confidence += prediction.probability

    @property
    def pictures(self) -> int:
        """How many predictions these are."""
        return sum(self.counts.values())


class Observer:
    """Sums up what a classifier predicts, in microseconds; a thread of its own stores it now and then.

    It stores where the state's folder is there already, and never disturbs whoever predicts: what the disk does not
    take is forgotten. The file holds nothing that cannot be learned again, so a damaged one is begun anew.
    Thread-safe; any number of processes may observe for one state.
    """

    def __init__(self, folder: Path, bundle: str, embedding_size: int) -> None:
        self._path, self._bundle, self._size = folder / FILE, bundle, embedding_size
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: Deque[Block] = deque(maxlen=_WAITING_BLOCKS)
        self._block: Optional[Block] = None
        self._last: Optional[np.ndarray] = None
        self._closed = threading.Event()

    def observe(self, grid: np.ndarray, prediction: Prediction, position: int) -> None:
        """Takes in an embedding (d,) on the grid and what a layer that knew the journal up to `position` said."""
        row = grid.astype(np.float32)
        with self._lock:
            if self._last is None:
                self._start()
            elif float(row @ self._last) > STILL_COSINE * GRID**2:
                return
            self._last = row
            block = self._block
            if block is None or block.position != position or block.pictures >= BLOCK_PICTURES:
                block = self._block = Block(position)
                self._waiting.append(block)
            block.add(grid, prediction)

    def window(self, position: int) -> Optional[Window]:
        """What was predicted by layers that knew the journal up to `position`, here and elsewhere; None of nothing."""
        with self._writing:
            stored = self._stored(position)
            with self._lock:
                unstored = [copy.deepcopy(block) for block in self._waiting if block.position == position]
        return _window_of([*stored, *unstored])

    def flush(self, only_full: bool = False) -> None:
        """Stores what waits; where the disk refuses, the newest of it waits on."""
        with self._writing, contextlib.suppress(OSError):
            with self._lock:
                blocks = [block for block in self._waiting if block is not self._block or not only_full]
                if not only_full:
                    self._block = None
            if blocks and self._path.parent.is_dir() and self._store(blocks):
                with self._lock:
                    kept = [block for block in self._waiting if all(block is not other for other in blocks)]
                    self._waiting = deque(kept, maxlen=_WAITING_BLOCKS)

    def close(self) -> None:
        """Stores what waits, and ends the thread."""
        self._closed.set()
        self.flush()

    def _start(self) -> None:
        threading.Thread(target=self._store_now_and_then, daemon=True).start()

    def _store_now_and_then(self) -> None:
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
            uri = f"{self._path.resolve().as_uri()}?mode=rw"  # not ro: that could not roll back what a kill cut short
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
_WAITING_BLOCKS = WINDOW_PICTURES // BLOCK_PICTURES
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
    """The newest blocks as one window."""
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
