"""Stores the results of finished trials in the cache, so that an interrupted search continues where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional

from edgetl import __version__
from edgetl.conversion import tensorflow_version
from edgetl.data import Dataset
from edgetl.errors import StorageError
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.trial import TrialResult
from edgetl.targets import Target

_LOCK_TIMEOUT_S = 30.0


class TrialStore:
    """Results by everything that determines them: photos, recipe, weights, options, versions, and the board's rules.

    The budget is not part of the key, nor is latency, which follows from the result and the board: a search with other
    limits reuses all trials.
    """

    def __init__(self, folder: Path, dataset: Dataset, board: Target, common: BuildOptions) -> None:
        self._path = folder / "searches-2.sqlite"
        data = replace(common.data, workers=None)
        self._common = {
            "versions": [__version__, tensorflow_version()],
            "photos": [dataset.digest, repr(data)],
            "training": repr([common.training, common.pruning, common.normalization]),
            "board": [board.edgetpu, board.channel_multiple],
        }
        with self._connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS trials (key TEXT PRIMARY KEY, outcome TEXT NOT NULL)")

    def find(self, recipe: Recipe) -> Optional[TrialResult]:
        """The stored result of the recipe; None if it was never tried."""
        with self._connection() as connection:
            row = connection.execute("SELECT outcome FROM trials WHERE key = ?", (self._key(recipe),)).fetchone()
        return TrialResult.from_json(row[0]) if row else None

    def keep(self, recipe: Recipe, result: TrialResult) -> None:
        """Store a result; it is on disk when this returns."""
        with self._connection() as connection:
            connection.execute("REPLACE INTO trials VALUES (?, ?)", (self._key(recipe), result.to_json()))

    def _key(self, recipe: Recipe) -> str:
        varied = [recipe.backbone, recipe.input_size, recipe.weights_digest, recipe.epochs, recipe.pruned]
        content = json.dumps([self._common, varied], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT_S)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot use {self._path}: {error}; delete it, or set EDGETL_CACHE to another folder"
            ) from error
