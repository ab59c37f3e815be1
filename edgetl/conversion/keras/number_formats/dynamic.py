"""dynamic: int8 weights; activations are quantized while the model runs, so no calibration is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl.conversion.keras.number_format import NumberFormat

if TYPE_CHECKING:
    from edgetl.conversion.keras.source import Source


def _compile(source: Source) -> bytes:
    return source.compile_for_pixels(_configure)


def _configure(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # With a scale per channel, dense layers would need FULLY_CONNECTED 12; tflite-runtime 2.14 supports 10.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True


FORMAT = NumberFormat("dynamic", _compile)
