"""Where edgetl keeps what it can make again: photos' embeddings, compiled backbones, downloads; the host asks."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """EDGETL_CACHE, else edgetl under XDG_CACHE_HOME, else ~/.cache/edgetl. It need not be there yet."""
    if chosen := os.environ.get("EDGETL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"
