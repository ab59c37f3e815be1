"""Turns a Keras backbone into a TFLite file that a target runs, and reads, checks and writes TFLite files.

Importing this module is cheap: each name is loaded on first use, and TensorFlow only when a model is converted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader

if TYPE_CHECKING:
    from edgetl.conversion.backbone_source import COMPILED_SUFFIXES, BackboneSource, find_backbone_source
    from edgetl.conversion.bundle_export import export
    from edgetl.conversion.compression.sparsity import SparsityOptions
    from edgetl.conversion.compression.structured_pruning import PruningOptions
    from edgetl.conversion.keras.compile_cache import compile_backbone, tensorflow_version
    from edgetl.conversion.keras.converter import convert
    from edgetl.conversion.keras.number_formats import QUANTIZATIONS, QUANTIZE_CHOICES
    from edgetl.conversion.keras.options import ConversionOptions
    from edgetl.conversion.keras.representative_frames import recipe_frames
    from edgetl.conversion.memory_estimate import estimate_ram, least_ram
    from edgetl.conversion.tflite.appended_last_layer import append_last_layer
    from edgetl.conversion.tflite.artifact import Artifact
    from edgetl.conversion.tflite.description import describe
    from edgetl.conversion.tflite.operators import Operator, check, list_operators
    from edgetl.conversion.tflite.weight_counts import WeightCount, count_weights

__all__ = [
    "COMPILED_SUFFIXES",
    "QUANTIZATIONS",
    "QUANTIZE_CHOICES",
    "Artifact",
    "BackboneSource",
    "ConversionOptions",
    "Operator",
    "PruningOptions",
    "SparsityOptions",
    "WeightCount",
    "append_last_layer",
    "check",
    "compile_backbone",
    "convert",
    "count_weights",
    "describe",
    "estimate_ram",
    "export",
    "find_backbone_source",
    "least_ram",
    "list_operators",
    "recipe_frames",
    "tensorflow_version",
]

_MODULES = {
    "COMPILED_SUFFIXES": "backbone_source",
    "QUANTIZATIONS": "keras.number_formats",
    "QUANTIZE_CHOICES": "keras.number_formats",
    "Artifact": "tflite.artifact",
    "ConversionOptions": "keras.options",
    "Operator": "tflite.operators",
    "BackboneSource": "backbone_source",
    "PruningOptions": "compression.structured_pruning",
    "SparsityOptions": "compression.sparsity",
    "WeightCount": "tflite.weight_counts",
    "append_last_layer": "tflite.appended_last_layer",
    "check": "tflite.operators",
    "compile_backbone": "keras.compile_cache",
    "convert": "keras.converter",
    "count_weights": "tflite.weight_counts",
    "describe": "tflite.description",
    "estimate_ram": "memory_estimate",
    "export": "bundle_export",
    "find_backbone_source": "backbone_source",
    "least_ram": "memory_estimate",
    "list_operators": "tflite.operators",
    "recipe_frames": "keras.representative_frames",
    "tensorflow_version": "keras.compile_cache",
}

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
