"""Hides TensorFlow's converter: a Keras backbone becomes a TFLite file; `pipeline` and `compiled` call it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl.conversion.keras import selective_formats
from edgetl.conversion.keras.quiet import quiet_tensorflow
from edgetl.conversion.tflite import schema
from edgetl.conversion.tflite.artifact import Artifact, ConversionOptions
from edgetl.errors import ConversionError, MissingExtraError
from edgetl.runtime import Preprocess

if TYPE_CHECKING:
    from tf_keras import Model

BLACK, WHITE = 0, 255


def convert(
    model: Model,
    normalization: tuple[float, float],
    preprocess: Preprocess,
    options: ConversionOptions | None = None,
    calibration: Iterable[np.ndarray] = (),
) -> Artifact:
    """A backbone as a TFLite file that takes raw pixels: uint8 RGB (1, h, w, 3) in, embedding (1, d) out.

    `model` maps normalised float32 (n, h, w, 3) to embeddings (n, d); `normalization` is its (offset, scale):
    it sees (pixel - offset) / scale. `calibration` are frames, uint8 (h, w, 3), for int8 and int16x8; the first
    `options.calibration_images` are used. int8 gives an int8 embedding, the others a float32 one.
    The same model and frames give the same bytes. Raises ConversionError, MissingExtraError.
    """
    options = options or ConversionOptions()
    _check_normalization(normalization)
    if options.quantize == "int8":
        frames = _calibration_frames(calibration, preprocess, options.calibration_images)
        compiled = _compile_int8(model, preprocess, _normalized(frames, normalization), options)
        _check_input_quantization(compiled, normalization)
    elif options.quantize == "int16x8":
        frames = _calibration_frames(calibration, preprocess, options.calibration_images)
        compiled = _compile(model, preprocess, _int16x8_settings(frames), normalization)
    else:
        compiled = _compile(model, preprocess, _FLOAT_SETTINGS[options.quantize], normalization)
    artifact = Artifact.from_model(compiled, options.quantize, preprocess)
    expected = "int8" if options.quantize == "int8" else "float32"
    if artifact.embedding["dtype"] != expected:
        raise ConversionError(f"the embedding came out as {artifact.embedding['dtype']} instead of {expected}")
    return artifact


Settings = Callable[[Any, Any], None]
"""Sets up a converter; called with the converter and the tensorflow package."""


def _compile(
    model: Model, preprocess: Preprocess, settings: Settings, normalization: tuple[float, float] | None = None
) -> bytes:
    """With `normalization` the graph takes uint8 pixels and normalises them; without, normalised floats."""
    with quiet_tensorflow():
        try:
            import tensorflow as tf
        except ImportError as error:
            raise MissingExtraError("tensorflow and tf_keras", "host", "converting a model") from error
        try:
            function = tf.function(_graph(tf, model, normalization))
            concrete = function.get_concrete_function(_image(tf, preprocess, normalization))
            # This route skips the detour over a SavedModel, which takes as long as the conversion itself.
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
            converter.experimental_lower_to_saved_model = False
            converter.exclude_conversion_metadata = True
            settings(converter, tf)
            return bytes(converter.convert())
        except Exception as error:  # TensorFlow raises whatever its layers happen to raise
            raise ConversionError(f"TensorFlow cannot convert {model.name}: {_one_line(error)}") from error


def _compile_int8(model: Model, preprocess: Preprocess, images: list[np.ndarray], options: ConversionOptions) -> bytes:
    """In one go, or in two steps where ranges or layers are chosen between them."""
    if options.range_quantile is None and not options.float_tensors:
        return _compile(model, preprocess, _int8_settings(images))
    calibrated = _compile(model, preprocess, _calibrating(_int8_settings(images)))
    if options.range_quantile is not None:
        calibrated = selective_formats.clip_ranges(calibrated, images, options.range_quantile)
    return selective_formats.quantize(calibrated, options.float_tensors)


def _normalized(frames: list[np.ndarray], normalization: tuple[float, float]) -> list[np.ndarray]:
    """What the model sees of each frame, float32 (1, h, w, 3)."""
    offset, scale = normalization
    return [((frame.astype(np.float32) - np.float32(offset)) / np.float32(scale))[np.newaxis] for frame in frames]


def _graph(tf: Any, model: Model, normalization: tuple[float, float] | None) -> Callable[[Any], Any]:
    if normalization is None:
        return lambda image: model(image, training=False)
    offset, scale = normalization
    return lambda image: model((tf.cast(image, tf.float32) - offset) / scale, training=False)


def _image(tf: Any, preprocess: Preprocess, normalization: tuple[float, float] | None) -> Any:
    dtype = tf.float32 if normalization is None else tf.uint8
    return tf.TensorSpec((1, *preprocess.size, 3), dtype, name="image")


def _int8_settings(images: list[np.ndarray]) -> Settings:
    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image]

    def settings(converter: Any, tf: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8

    return settings


def _calibrating(settings: Settings) -> Settings:
    """The same, but only up to the float model with the ranges of its tensors noted."""

    def only_calibrate(converter: Any, tf: Any) -> None:
        settings(converter, tf)
        converter._experimental_calibrate_only = True

    return only_calibrate


def _int16x8_settings(frames: list[np.ndarray]) -> Settings:
    """Raw frames: an input of 16 bits cannot take bytes, so normalisation is part of the graph."""

    def representative() -> Iterator[list[np.ndarray]]:
        for frame in frames:
            yield [frame[np.newaxis]]

    def settings(converter: Any, tf: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]

    return settings


def _float32_settings(converter: Any, tf: Any) -> None:
    """Nothing to set: float32 is what the converter gives by itself."""


def _float16_settings(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic_settings(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # Per channel, dense layers would need FULLY_CONNECTED 12; tflite-runtime 2.14 has 10.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True


_FLOAT_SETTINGS: dict[str, Settings] = {
    "float32": _float32_settings,
    "float16": _float16_settings,
    "dynamic": _dynamic_settings,
}


def _check_normalization(normalization: tuple[float, float]) -> None:
    offset, scale = normalization
    if not (BLACK <= offset <= WHITE and scale > 0):
        raise ConversionError(
            f"normalisation (offset {offset}, scale {scale}) cannot go inside the model: "
            f"the offset must be {BLACK} to {WHITE}, the scale above 0"
        )


def _calibration_frames(calibration: Iterable[np.ndarray], preprocess: Preprocess, limit: int) -> list[np.ndarray]:
    """At most `limit` frames, the first with a black and a white pixel in its corner.

    Those fix the calibrated range of the input at [(0 - offset) / scale, (255 - offset) / scale]. So the
    input's own quantization does the normalisation, and pixels go in as they are.
    """
    frames = list(itertools.islice(calibration, limit))
    if not frames:
        raise ConversionError("int8 needs frames to calibrate on, received none; give training photos")
    for frame in frames:
        if frame.shape != (*preprocess.size, 3) or frame.dtype != np.uint8:
            raise ConversionError(
                f"calibration frames must be uint8 {(*preprocess.size, 3)}, received {frame.dtype} {frame.shape}"
            )
    first = frames[0].copy()
    first[0, 0], first[-1, -1] = BLACK, WHITE
    return [first, *frames[1:]]


def _check_input_quantization(model: bytes, normalization: tuple[float, float]) -> None:
    """The input must mean (pixel - offset) / scale; half a pixel is what rounding the zero point may cost."""
    offset, scale = normalization
    graph = schema.read_model(model).subgraphs[0]
    found = schema.tensor_scale(graph.tensors[graph.inputs[0]])
    if found is None or abs(found[0] * scale - 1) > 1e-3 or abs(found[1] - offset) > 0.5:
        raise ConversionError(
            f"the input came out with (scale, zero point) {found} instead of {(1 / scale, offset)}; "
            "its first layer must take the normalised image as it is"
        )


def _one_line(error: BaseException) -> str:
    """The line of TensorFlow's message that says most; the rest is its own call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line] or lines or [type(error).__name__]
    return telling[0][:300]
