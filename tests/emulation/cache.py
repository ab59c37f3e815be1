"""Keeps folders that take long to make in the user's cache, for all test sessions and workers."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.models import CACHE


def kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` makes at the path it is given; one for each name and recipe. Do not write to it.

    It is made beside and moved, with all others kept waiting, so a half-made one is never seen: where `make` raises,
    or is killed, the next call starts again.
    """
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    folder = CACHE / f"{name}-{digest}"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            beside = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(beside, ignore_errors=True)
            make(beside)
            os.replace(beside, folder)
    return folder
