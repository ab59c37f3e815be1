"""int16x8: integers throughout, with int8 weights and int16 activations; more accurate than int8, and slower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl.conversion.keras.number_format import NumberFormat

if TYPE_CHECKING:
    from edgetl.conversion.keras.source import Source


def _compile(source: Source) -> bytes:
    """Calibrate on raw pixels: an int16 input cannot take bytes, so the graph normalises them."""

    def configure(converter: Any, tf: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([frame[None]] for frame in source.frames)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]

    return source.compile_for_pixels(configure)


FORMAT = NumberFormat("int16x8", _compile, calibrated=True)
