"""edgetl: transfer-learned image models that are small, honestly measured, and keep learning on the device.

The verbs of the command line are functions here, loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_VERBS = {
    "bench": "edgetl.runtime.bench",
    "build": "edgetl.pipeline",
    "Budget": "edgetl.pipeline",
    "BuildOptions": "edgetl.pipeline",
    "connect": "edgetl.deployment",
    "deploy": "edgetl.deployment",
    "evaluate": "edgetl.evaluation",
    "export": "edgetl.conversion.bundle_export",
    "load_target": "edgetl.targets",
    "Classifier": "edgetl.runtime",
    "Learner": "edgetl.runtime",
    "open_bundle": "edgetl.bundle",
    "pull": "edgetl.deployment",
    "search": "edgetl.pipeline.search",
    "SearchOptions": "edgetl.pipeline.search",
}

__all__ = ["__version__", *sorted(_VERBS)]


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'edgetl' has no attribute '{name}'")
    return getattr(importlib.import_module(_VERBS[name]), name)


def __dir__() -> list[str]:
    return __all__
