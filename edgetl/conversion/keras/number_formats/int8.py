"""int8: integers throughout, with a weight scale per channel; the smallest and fastest, and what an Edge TPU needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl.conversion.keras.number_format import NumberFormat
from edgetl.errors import ConversionError

if TYPE_CHECKING:
    import numpy as np

    from edgetl.conversion.keras.source import Configure, Source


def _compile(source: Source) -> bytes:
    """Quantize in one pass, or in two where ranges or number formats change after calibration."""
    images = source.normalized_frames()
    if source.range_quantile is None and not source.float_tensors:
        model = source.compile_for_normalized(_configure(images))
    else:
        model = _compile_in_two_passes(source, images)
    _check_input_quantization(model, source.normalization)
    return model


def _compile_in_two_passes(source: Source, images: list[np.ndarray]) -> bytes:
    from edgetl.conversion.keras import selective_formats

    calibrated = source.compile_for_normalized(_calibrate_only(_configure(images)))
    if source.range_quantile is not None:
        calibrated = selective_formats.clip_ranges(calibrated, images, source.range_quantile)
    return selective_formats.quantize(calibrated, source.float_tensors)


def _configure(images: list[np.ndarray]) -> Configure:
    def configure(converter: Any, tf: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8

    return configure


def _calibrate_only(configure: Configure) -> Configure:
    """The same settings, but stop at the float model annotated with the range of each tensor."""

    def configure_calibration(converter: Any, tf: Any) -> None:
        configure(converter, tf)
        converter._experimental_calibrate_only = True

    return configure_calibration


def _check_input_quantization(model: bytes, normalization: tuple[float, float]) -> None:
    """Raise unless the input means (pixel - offset) / scale, up to half a pixel from rounding the zero point."""
    from edgetl.conversion.tflite.graph import read_graph

    offset, scale = normalization
    graph = read_graph(model)
    found = graph.tensors[graph.inputs[0]].scale
    if found is None or abs(found[0] * scale - 1) > 1e-3 or abs(found[1] - offset) > 0.5:
        raise ConversionError(
            f"the input's (scale, zero point) is {found}, expected {(1 / scale, offset)}; "
            "the first layer must take the normalised image unchanged"
        )


FORMAT = NumberFormat("int8", _compile, embedding_dtype="int8", calibrated=True, trainable=True)
