"""Imports tf_keras on first use, and loads Keras weights files."""

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
    """The tf_keras package.

    Raises:
        MissingExtraError: tf_keras or TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # TensorFlow imports Keras 3, whose backend the user may have set
    try:
        keras = importlib.import_module("tf_keras")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tf_keras", "tensorflow"):
            raise WeightsError(f"tf_keras is installed but cannot be imported: {error}") from error
        raise MissingExtraError("tensorflow and tf_keras", "host", "building a backbone") from error
    except ImportError as error:
        raise WeightsError(f"tf_keras is installed but cannot be imported: {error}") from error
    keras.backend.set_image_data_format("channels_last")  # whatever ~/.keras/keras.json says
    keras.backend.set_floatx("float32")
    return keras


def load_keras_weights(model: Model, path: Path) -> None:
    """Loads the weights of `model` from a weights or model file that Keras wrote.

    Raises:
        WeightsError: the file cannot be read, or its weights do not fit the model.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{path} does not contain the weights of {model.name}: {reason}; choose the file for this backbone"
        ) from error
