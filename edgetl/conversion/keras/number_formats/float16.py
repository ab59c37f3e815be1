"""float16: weights of 16 bits, half the size of float32; activations stay float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl.conversion.keras.number_format import NumberFormat

if TYPE_CHECKING:
    from edgetl.conversion.keras.source import Source


def _compile(source: Source) -> bytes:
    return source.compile_for_pixels(_configure)


def _configure(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


FORMAT = NumberFormat("float16", _compile)
