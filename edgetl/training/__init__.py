"""Trains backbones: fine-tuning, distillation, quantization-aware training, and training from scratch to compare.

Importing this module and creating its options does not import TensorFlow.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edgetl.errors import MissingExtraError
from edgetl.lazy import attribute_loader
from edgetl.training.options import (
    AugmentationOptions,
    DistillationOptions,
    FineTuneOptions,
    ImitationOptions,
    QuantizationAwareOptions,
)

if TYPE_CHECKING:
    from edgetl.training.batch_norm_folding import copy_for_training, fold
    from edgetl.training.distillation import Teacher
    from edgetl.training.embedding_distillation import imitate
    from edgetl.training.fine_tuning import FineTuned, fine_tune, from_scratch
    from edgetl.training.loop.input_pipeline import NO_LABEL, Frames
    from edgetl.training.quantization_aware.training import train_quantization_aware
    from edgetl.training.trainable_last_layer import TrainableLastLayer, label_loss

__all__ = [
    "NO_LABEL",
    "AugmentationOptions",
    "DistillationOptions",
    "FineTuneOptions",
    "FineTuned",
    "Frames",
    "ImitationOptions",
    "QuantizationAwareOptions",
    "Teacher",
    "TrainableLastLayer",
    "copy_for_training",
    "fine_tune",
    "fold",
    "from_scratch",
    "imitate",
    "label_loss",
    "train_quantization_aware",
]

_MODULES = {  # of the names that need TensorFlow
    "NO_LABEL": "loop.input_pipeline",
    "FineTuned": "fine_tuning",
    "Frames": "loop.input_pipeline",
    "Teacher": "distillation",
    "TrainableLastLayer": "trainable_last_layer",
    "copy_for_training": "batch_norm_folding",
    "fine_tune": "fine_tuning",
    "fold": "batch_norm_folding",
    "from_scratch": "fine_tuning",
    "imitate": "embedding_distillation",
    "label_loss": "trainable_last_layer",
    "train_quantization_aware": "quantization_aware.training",
}


if not TYPE_CHECKING:
    _load = attribute_loader(__name__, _MODULES)

    def __getattr__(name: str) -> Any:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            return _load(name)
        except ImportError as error:
            raise MissingExtraError("tensorflow and tf_keras", "host", "training a backbone") from error
