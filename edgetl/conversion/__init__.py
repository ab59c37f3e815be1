"""From a Keras backbone to a TFLite file that a target runs; `pipeline` and the CLI call it.

Importing it, and getting a backbone that was compiled before, load no TensorFlow.
"""

from __future__ import annotations

from edgetl.conversion.artifact import QUANTIZATIONS, Artifact, ConversionOptions
from edgetl.conversion.compiled import compile_backbone
from edgetl.conversion.converter import convert
from edgetl.conversion.description import describe
from edgetl.conversion.operators import Operator, check, list_operators
from edgetl.conversion.pruning import PruningOptions
from edgetl.conversion.sparsity import SparsityOptions
from edgetl.conversion.standalone import export

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
