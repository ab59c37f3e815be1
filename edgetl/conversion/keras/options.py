"""Options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from edgetl.conversion.keras.number_formats import QUANTIZATIONS
from edgetl.errors import OptionError, UnknownNameError


@dataclass(frozen=True)
class ConversionOptions:
    """How to quantize a model.

    `quantize` is the name of a number format. Formats that need calibration use `calibration_images` frames at most.
    For int8 alone: `range_quantile` q clips the range of each activation to its quantiles 1 - q to q, None keeps the
    extremes; `float_tensors` are names of tensors in the .tflite file whose layers stay in float32.

    Raises:
        UnknownNameError: there is no such number format.
        OptionError: a number is out of range.
    """

    quantize: str = "int8"
    calibration_images: int = 200
    range_quantile: Optional[float] = None
    float_tensors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.quantize not in QUANTIZATIONS:
            raise UnknownNameError("quantization", str(self.quantize), QUANTIZATIONS, "edgetl build --help")
        if self.calibration_images < 1:
            raise OptionError(f"calibration_images must be 1 or more, received {self.calibration_images}")
        if self.range_quantile is not None and not 0.5 < self.range_quantile < 1:
            raise OptionError(f"range_quantile must be between 0.5 and 1, received {self.range_quantile}")
