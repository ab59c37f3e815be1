"""The device: decodes photos, runs model and last layer; applications, the CLI and the host call it."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Classifier": "inference.classifier",
    "Embedder": "inference.embedder",
    "Engine": "inference.engine",
    "Learner": "learning.learner",
    "Prediction": "inference.classifier",
    "Preprocess": "inference.preprocess",
    "decode": "inference.preprocess",
    "interpreters": "inference.engine",
    "iterate": "stream.sources",
    "watch": "stream.watched_folder",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


PROTOCOL = 1
"""The version of `python -m edgetl.runtime`: its verbs, options and JSON. It changes when a host must know."""
