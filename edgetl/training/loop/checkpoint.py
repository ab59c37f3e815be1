"""Hides where an unfinished training waits on disk; `fine_tuning` writes it after each epoch and goes on from it."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edgetl.errors import StorageError


def save(path: Path, arrays: Sequence[np.ndarray], state: dict[str, Any]) -> None:
    """Replaces the file at once; a kill leaves the old one or the new one. StorageError where it cannot be written."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    named: dict[str, Any] = {str(index): array for index, array in enumerate(arrays)}
    named["state"] = np.array(json.dumps(state))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez(file, **named)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(
            f"cannot write the checkpoint {path}: {error.strerror}; make room or name another"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def load(path: Path, like: Sequence[np.ndarray]) -> Optional[tuple[list[np.ndarray], dict[str, Any]]]:
    """What was saved last; None where there is nothing, or not of a training with arrays of these shapes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            arrays = [file[str(index)] for index in range(len(file.files) - 1)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    shapes = [array.shape for array in arrays]
    return (arrays, state) if shapes == [array.shape for array in like] else None
