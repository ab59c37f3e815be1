"""Hides where the outcomes of finished trials wait, so that an interrupted search goes on; the search calls it."""

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
from edgetl.conversion.keras.compile_cache import tensorflow_version
from edgetl.data import Dataset
from edgetl.errors import StorageError
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.trial import Outcome
from edgetl.targets import Target

_PATIENCE_SECONDS = 30.0


class Records:
    """Outcomes by all that they follow from: photos, recipe, weights, options, versions, what the board asks for.

    The budget is no part of it, nor is latency, which follows from the outcome and the board: other limits find all
    trials again.
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

    def find(self, recipe: Recipe) -> Optional[Outcome]:
        """The outcome of that recipe, where a search came so far."""
        with self._connection() as connection:
            row = connection.execute("SELECT outcome FROM trials WHERE key = ?", (self._key(recipe),)).fetchone()
        return Outcome.from_json(row[0]) if row else None

    def keep(self, recipe: Recipe, outcome: Outcome) -> None:
        """On the disk when this returns."""
        with self._connection() as connection:
            connection.execute("REPLACE INTO trials VALUES (?, ?)", (self._key(recipe), outcome.to_json()))

    def _key(self, recipe: Recipe) -> str:
        chosen = [recipe.backbone, recipe.input_size, recipe.weights_digest, recipe.epochs, recipe.pruned]
        content = json.dumps([self._common, chosen], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot use {self._path}: {error}; remove it, or set EDGETL_CACHE to another folder"
            ) from error
