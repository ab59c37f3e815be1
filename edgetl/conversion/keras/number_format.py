"""Defines what a number format is; the formats themselves are the modules of `number_formats`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl.conversion.keras.source import Source


@dataclass(frozen=True)
class NumberFormat:
    """A number format that a backbone can be compiled to.

    `name` is its name in options, bundles and reports. `compile(source)` returns the .tflite file, whose
    embedding has `embedding_dtype`. A `calibrated` format needs frames to measure activations on.
    Quantization-aware training can simulate a `trainable` one.
    """

    name: str
    compile: Callable[[Source], bytes]
    embedding_dtype: str = "float32"
    calibrated: bool = False
    trainable: bool = False
