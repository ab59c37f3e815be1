"""The device: decodes photos, runs model and last layer; applications, the CLI and the host call it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.runtime.inference.classifier import Classifier, Prediction
    from edgetl.runtime.inference.embedder import Embedder
    from edgetl.runtime.inference.engine import Engine, interpreters
    from edgetl.runtime.inference.preprocess import Preprocess, decode
    from edgetl.runtime.learning.learner import Learner
    from edgetl.runtime.stream.sources import iterate
    from edgetl.runtime.stream.watched_folder import watch

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

__all__ = [
    "Classifier",
    "Embedder",
    "Engine",
    "Learner",
    "Prediction",
    "Preprocess",
    "decode",
    "interpreters",
    "iterate",
    "watch",
]


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


PROTOCOL = 1
"""The version of `python -m edgetl.runtime`: its verbs, options and JSON. It changes when a host must know."""
