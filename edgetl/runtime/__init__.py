"""The device: decodes photos, runs model and last layer; applications, the CLI and the host call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader

if TYPE_CHECKING:
    from edgetl.runtime.inference.classifier import Classifier, Prediction
    from edgetl.runtime.inference.embedder import Embedder
    from edgetl.runtime.inference.engine import Engine, interpreters
    from edgetl.runtime.inference.preprocess import Preprocess, decode
    from edgetl.runtime.learning.learner import Learner
    from edgetl.runtime.stream.sources import iterate
    from edgetl.runtime.stream.watched_folder import watch

_MODULES = {
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

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__


PROTOCOL = 1
"""The version of `python -m edgetl.runtime`: its verbs, options and JSON. It changes when a host must know."""
