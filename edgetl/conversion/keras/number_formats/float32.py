"""float32: nothing is quantized; the reference that the other formats are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl.conversion.keras.number_format import NumberFormat

if TYPE_CHECKING:
    from edgetl.conversion.keras.source import Source


def _compile(source: Source) -> bytes:
    return source.compile_for_pixels(_configure)


def _configure(converter: Any, tf: Any) -> None:
    """Leave the converter's defaults, which are float32."""


FORMAT = NumberFormat("float32", _compile)
