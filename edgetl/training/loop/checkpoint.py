"""Saves the state of an unfinished training after each epoch, and loads it to continue."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edgetl.durable import make_folder, replace_file


def save(path: Path, arrays: Sequence[np.ndarray], state: dict[str, Any]) -> None:
    """Replaces the file atomically; raises StorageError if it cannot be written."""
    named: dict[str, Any] = {str(index): array for index, array in enumerate(arrays)}
    named["state"] = np.array(json.dumps(state))
    remedy = "free some space, or choose another checkpoint"
    make_folder(path.parent, remedy=remedy)
    replace_file(path, lambda file: np.savez(file, **named), remedy=remedy)


def load(path: Path, like: Sequence[np.ndarray]) -> Optional[tuple[list[np.ndarray], dict[str, Any]]]:
    """The saved arrays and state; None if there are none, or the arrays do not have the shapes of `like`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            arrays = [file[str(index)] for index in range(len(file.files) - 1)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    shapes = [array.shape for array in arrays]
    return (arrays, state) if shapes == [array.shape for array in like] else None
