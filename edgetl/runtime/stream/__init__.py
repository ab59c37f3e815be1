"""Reads images from files, a watched folder, standard input or a camera, and runs commands for labels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.runtime.stream.camera import CameraFrame, is_camera, read_camera
    from edgetl.runtime.stream.hooks import Hooks
    from edgetl.runtime.stream.in_hand import PictureInHand
    from edgetl.runtime.stream.repeated_lines import RepeatedLines
    from edgetl.runtime.stream.sources import IMAGE_EXTENSIONS, Source, find_images, iterate
    from edgetl.runtime.stream.watched_folder import watch

__all__ = [
    "IMAGE_EXTENSIONS",
    "CameraFrame",
    "Hooks",
    "PictureInHand",
    "RepeatedLines",
    "Source",
    "find_images",
    "is_camera",
    "iterate",
    "read_camera",
    "watch",
]

_HOMES = {
    "IMAGE_EXTENSIONS": "sources",
    "CameraFrame": "camera",
    "Hooks": "hooks",
    "PictureInHand": "in_hand",
    "RepeatedLines": "repeated_lines",
    "Source": "sources",
    "find_images": "sources",
    "is_camera": "camera",
    "iterate": "sources",
    "read_camera": "camera",
    "watch": "watched_folder",
}
"""The module of each name. Modules are imported on first use, so that a device loads only what it runs."""

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
