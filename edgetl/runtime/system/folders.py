"""Finds the folders of the user's settings, of the cache, and of the data files that edgetl is distributed with."""

from __future__ import annotations

import os
from pathlib import Path

import edgetl


def cache_folder() -> Path:
    """EDGETL_CACHE, else edgetl under XDG_CACHE_HOME, else ~/.cache/edgetl. It need not be there yet."""
    if chosen := os.environ.get("EDGETL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"


def config_folder() -> Path:
    """edgetl under XDG_CONFIG_HOME, else ~/.config/edgetl. It need not be there."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgetl"


DATA_FOLDERS = {
    "targets_data": "targets",
    "docker_data/edgetpu-compiler": "docker/edgetpu-compiler",
    "fleet_data": "examples/fleet",
}
"""Data files that the wheel holds: the folder inside the package, and where it comes from in a source checkout."""


def data_folder(name: str) -> Path:
    """One of DATA_FOLDERS, by its name inside the package: there, or in the source checkout around the package."""
    package = Path(edgetl.__file__).resolve().parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / DATA_FOLDERS[name]
