"""Where edgetl keeps what is the user's (settings, targets), and what it can make again (embeddings, downloads)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """EDGETL_CACHE, else edgetl under XDG_CACHE_HOME, else ~/.cache/edgetl. It need not be there yet."""
    if chosen := os.environ.get("EDGETL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"


def config_folder() -> Path:
    """edgetl under XDG_CONFIG_HOME, else ~/.config/edgetl. It need not be there."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgetl"
