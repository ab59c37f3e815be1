"""The device: decodes photos, runs model and last layer; applications, the CLI and the host call it."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Classifier": "classifier",
    "Embedder": "embedder",
    "Engine": "engine",
    "Learner": "learner",
    "Prediction": "classifier",
    "Preprocess": "preprocess",
    "bench": "benchmark",
    "decode": "preprocess",
    "interpreters": "engine",
    "iterate": "sources",
    "watch": "watching",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
