"""Builds a bundle from photos: the order of a build, its stages, and the search for the best model for a board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader

if TYPE_CHECKING:
    from edgetl.pipeline.budget import Budget
    from edgetl.pipeline.builder import build
    from edgetl.pipeline.edgetpu import compile_bundle
    from edgetl.pipeline.options import BuildOptions, BuildResult

__all__ = ["Budget", "BuildOptions", "BuildResult", "build", "compile_bundle"]

_MODULES = {
    "Budget": "budget",
    "BuildOptions": "options",
    "BuildResult": "options",
    "build": "builder",
    "compile_bundle": "edgetpu",
}

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
