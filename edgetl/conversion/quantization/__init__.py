"""Finds and repairs the accuracy that int8 quantization costs: layer-wise error, equalization, bias correction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader

if TYPE_CHECKING:
    from edgetl.conversion.quantization.bias_correction import correct_bias
    from edgetl.conversion.quantization.equalization import ScaleGroup, equalize, rescale, scale_groups
    from edgetl.conversion.quantization.layerwise_error import (
        FRAMES,
        LayerError,
        compare_layers,
        guilty_layers,
        tensors_around,
    )

__all__ = [
    "FRAMES",
    "LayerError",
    "ScaleGroup",
    "compare_layers",
    "correct_bias",
    "equalize",
    "guilty_layers",
    "rescale",
    "scale_groups",
    "tensors_around",
]

_MODULES = {
    "FRAMES": "layerwise_error",
    "LayerError": "layerwise_error",
    "ScaleGroup": "equalization",
    "compare_layers": "layerwise_error",
    "correct_bias": "bias_correction",
    "equalize": "equalization",
    "guilty_layers": "layerwise_error",
    "rescale": "equalization",
    "scale_groups": "equalization",
    "tensors_around": "layerwise_error",
}

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
