"""Stage 2, on the workstation: a backbone fine-tuned on the user's photos, or trained from nothing to compare.

`pipeline` calls it. Importing it and filling its options load no TensorFlow.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from edgetl.errors import MissingExtraError
from edgetl.training.options import AugmentationOptions, DistillationOptions, FineTuneOptions, QuantizationAwareOptions

if TYPE_CHECKING:
    from edgetl.training.distillation import Teacher
    from edgetl.training.fine_tuning import FineTuned, fine_tune, from_scratch
    from edgetl.training.loop.input_pipeline import NO_LABEL, Frames
    from edgetl.training.quantization_aware.training import train_quantization_aware
    from edgetl.training.trainable_last_layer import LastLayer, label_loss

__all__ = [
    "NO_LABEL",
    "AugmentationOptions",
    "DistillationOptions",
    "FineTuneOptions",
    "FineTuned",
    "Frames",
    "LastLayer",
    "QuantizationAwareOptions",
    "Teacher",
    "fine_tune",
    "from_scratch",
    "label_loss",
    "train_quantization_aware",
]

_NEEDS_TENSORFLOW = {
    "NO_LABEL": "loop.input_pipeline",
    "FineTuned": "fine_tuning",
    "Frames": "loop.input_pipeline",
    "LastLayer": "trainable_last_layer",
    "Teacher": "distillation",
    "fine_tune": "fine_tuning",
    "from_scratch": "fine_tuning",
    "label_loss": "trainable_last_layer",
    "train_quantization_aware": "quantization_aware.training",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TENSORFLOW:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        module = importlib.import_module(f"{__name__}.{_NEEDS_TENSORFLOW[name]}")
    except ImportError as error:
        raise MissingExtraError("tensorflow and tf_keras", "host", "training a backbone") from error
    return getattr(module, name)
