"""From a Keras backbone to a TFLite file that a target runs; `pipeline` and the CLI call it.

Importing it, and getting a backbone that was compiled before, load no TensorFlow.
"""

from __future__ import annotations

from edgetl.conversion.compression.sparsity import SparsityOptions
from edgetl.conversion.compression.structured_pruning import PruningOptions
from edgetl.conversion.keras.compile_cache import compile_backbone
from edgetl.conversion.keras.converter import convert
from edgetl.conversion.tflite.appended_last_layer import export
from edgetl.conversion.tflite.artifact import QUANTIZATIONS, Artifact, ConversionOptions
from edgetl.conversion.tflite.description import describe
from edgetl.conversion.tflite.operators import Operator, check, list_operators

__all__ = [
    "QUANTIZATIONS",
    "Artifact",
    "ConversionOptions",
    "Operator",
    "PruningOptions",
    "SparsityOptions",
    "check",
    "compile_backbone",
    "convert",
    "describe",
    "export",
    "list_operators",
]
