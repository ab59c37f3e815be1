"""The number formats of a compiled backbone, by name. Every module in this folder is one; to add one, add a module.

A module defines FORMAT, a `NumberFormat`. The options' checks, --quantize, the converter and the tests find it there.
It imports TensorFlow and numpy only inside functions, because the command line loads this folder to list the names.

A device checks the format in a bundle's manifest against its own list, `bundle.format.QUANTIZATIONS`, because it has
no converter. A test keeps the two equal.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from edgetl.conversion.keras.number_format import NumberFormat


def _find() -> dict[str, NumberFormat]:
    formats = (import_module(f"{__name__}.{found.name}").FORMAT for found in iter_modules(__path__))
    return {entry.name: entry for entry in formats}


NUMBER_FORMATS: dict[str, NumberFormat] = _find()
"""The number formats by name."""

QUANTIZATIONS: tuple[str, ...] = tuple(NUMBER_FORMATS)
"""The names of all number formats."""

QUANTIZE_CHOICES: tuple[str, ...] = tuple(
    choice
    for entry in NUMBER_FORMATS.values()
    for choice in ((entry.name, f"{entry.name}-qat") if entry.trainable else (entry.name,))
)
"""The values of --quantize: the formats, and those with quantization-aware training as NAME-qat."""
