"""Converts a Keras backbone to a TFLite file that takes raw pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Optional

import numpy as np

from edgetl.conversion.keras.number_formats import NUMBER_FORMATS
from edgetl.conversion.keras.options import ConversionOptions
from edgetl.conversion.keras.source import Source
from edgetl.conversion.tflite.artifact import Artifact
from edgetl.errors import ConversionError
from edgetl.runtime import Preprocess

if TYPE_CHECKING:
    from tf_keras import Model

BLACK, WHITE = 0, 255


def convert(
    model: Model,
    normalization: tuple[float, float],
    preprocess: Preprocess,
    options: Optional[ConversionOptions] = None,
    calibration: Iterable[np.ndarray] = (),
) -> Artifact:
    """Convert a backbone to a TFLite file: uint8 RGB (1, h, w, 3) in, embedding (1, d) out.

    `model` maps normalised images, float32 (n, h, w, 3), to embeddings (n, d). `normalization` is its (offset, scale):
    it sees (pixel - offset) / scale. `calibration` are frames, uint8 (h, w, 3), for formats that need calibration; the
    first `options.calibration_images` are used. int8 gives an int8 embedding, the other formats a float32 one. The
    same model and frames give the same bytes.

    Raises:
        ConversionError: TensorFlow cannot convert the model, or the frames do not fit it.
        MissingExtraError: TensorFlow is not installed.
    """
    options = options or ConversionOptions()
    _check_normalization(normalization)
    number_format = NUMBER_FORMATS[options.quantize]
    frames = []
    if number_format.calibrated:
        frames = _calibration_frames(calibration, preprocess, options)
    source = Source(model, preprocess, normalization, frames, options.range_quantile, options.float_tensors)
    compiled = number_format.compile(source)
    artifact = Artifact.from_model(compiled, options.quantize, preprocess)
    expected, received = number_format.embedding_dtype, artifact.embedding["dtype"]
    if received != expected:
        raise ConversionError(f"the converted embedding must be {expected}, received {received}")
    return artifact


def _check_normalization(normalization: tuple[float, float]) -> None:
    offset, scale = normalization
    if not (BLACK <= offset <= WHITE and scale > 0):
        raise ConversionError(
            f"normalisation (offset {offset}, scale {scale}) cannot go inside the model: "
            f"the offset must be {BLACK} to {WHITE}, the scale above 0"
        )


def _calibration_frames(
    calibration: Iterable[np.ndarray], preprocess: Preprocess, options: ConversionOptions
) -> list[np.ndarray]:
    """The frames to calibrate on, the first with a black and a white pixel in its corners.

    Those two fix the calibrated range of an int8 input at [(0 - offset) / scale, (255 - offset) / scale]. So the
    quantization of the input is the normalisation, and raw pixels can be fed as they are.
    """
    frames = list(itertools.islice(calibration, options.calibration_images))
    if not frames:
        raise ConversionError(f"{options.quantize} needs frames to calibrate on, received none; give training photos")
    expected = (*preprocess.size, 3)
    for frame in frames:
        if frame.shape != expected or frame.dtype != np.uint8:
            raise ConversionError(f"calibration frames must be uint8 {expected}, received {frame.dtype} {frame.shape}")
    first = frames[0].copy()
    first[0, 0], first[-1, -1] = BLACK, WHITE
    return [first, *frames[1:]]
