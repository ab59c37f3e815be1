"""The families' door to tf_keras: imported when first needed, with the line that installs it if missing."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edgetl.errors import MissingExtraError, WeightsError

if TYPE_CHECKING:
    from tf_keras import Model


@functools.cache
def tf_keras() -> ModuleType:
    """The tf_keras package; raises MissingExtraError where it, or TensorFlow, is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return importlib.import_module("tf_keras")
    except ImportError as error:
        raise MissingExtraError("tensorflow and tf_keras", "host", "building a backbone") from error


def load_keras_weights(model: Model, path: Path) -> None:
    """Fills `model` from a weights or model file that Keras wrote; WeightsError where it does not fit."""
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{path} does not hold the weights of {model.name}: {reason}; name the file that belongs to it"
        ) from error
