"""Locates the user's cache and settings folders, and the data files that are distributed with edgetl."""

from __future__ import annotations

import os
from pathlib import Path

import edgetl


def cache_folder() -> Path:
    """EDGETL_CACHE, else edgetl under XDG_CACHE_HOME, else ~/.cache/edgetl. It may not exist yet."""
    if chosen := os.environ.get("EDGETL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"


def config_folder() -> Path:
    """edgetl under XDG_CONFIG_HOME, else ~/.config/edgetl. It may not exist yet."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgetl"


DATA_FOLDERS = {
    "targets_data": "targets",
    "docker_data/edgetpu-compiler": "docker/edgetpu-compiler",
    "fleet_data": "examples/fleet",
}
"""The data folders of the wheel: path inside the package -> path in a source checkout."""


def data_folder(name: str) -> Path:
    """The folder of one of DATA_FOLDERS: in the installed package, else in the source checkout around it."""
    package = Path(edgetl.__file__).resolve().parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / DATA_FOLDERS[name]
