"""Turns a photo into a prediction: decoding, TFLite interpreter, last layer, and canaries that verify them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.runtime.inference.bundle_entries import last_layer_entries, read_last_layer, read_npy
    from edgetl.runtime.inference.canaries import Replay, canary_entries, replay, updated_canaries
    from edgetl.runtime.inference.classifier import Classifier, Prediction, default_threads
    from edgetl.runtime.inference.embedder import Embedder
    from edgetl.runtime.inference.engine import PACKAGES, Engine, interpreters
    from edgetl.runtime.inference.preprocess import ImageSource, Preprocess, decode

__all__ = [
    "PACKAGES",
    "Classifier",
    "Embedder",
    "Engine",
    "ImageSource",
    "Prediction",
    "Preprocess",
    "Replay",
    "canary_entries",
    "decode",
    "default_threads",
    "interpreters",
    "last_layer_entries",
    "read_last_layer",
    "read_npy",
    "replay",
    "updated_canaries",
]

_HOMES = {
    "PACKAGES": "engine",
    "Classifier": "classifier",
    "Embedder": "embedder",
    "Engine": "engine",
    "ImageSource": "preprocess",
    "Prediction": "classifier",
    "Preprocess": "preprocess",
    "Replay": "canaries",
    "canary_entries": "canaries",
    "decode": "preprocess",
    "default_threads": "classifier",
    "interpreters": "engine",
    "last_layer_entries": "bundle_entries",
    "read_last_layer": "bundle_entries",
    "read_npy": "bundle_entries",
    "replay": "canaries",
    "updated_canaries": "canaries",
}
"""The module of each name. Modules are imported on first use, so that a device loads only what it runs."""

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
