"""Builds a bundle from photos: the order of a build, its stages, and the search for the best model for a board."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.pipeline.budget import Budget
    from edgetl.pipeline.builder import build
    from edgetl.pipeline.edgetpu import compile_bundle
    from edgetl.pipeline.options import BuildOptions, BuildResult

__all__ = ["Budget", "BuildOptions", "BuildResult", "build", "compile_bundle"]

_HOMES = {
    "Budget": "budget",
    "BuildOptions": "options",
    "BuildResult": "options",
    "build": "builder",
    "compile_bundle": "edgetpu",
}

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
