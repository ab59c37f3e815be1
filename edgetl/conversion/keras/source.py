"""Runs TensorFlow's converter on a Keras backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from edgetl.conversion.keras.quiet import quiet_tensorflow
from edgetl.errors import ConversionError, MissingExtraError
from edgetl.runtime import Preprocess

if TYPE_CHECKING:
    from tf_keras import Model

Configure = Callable[[Any, Any], None]
"""Sets up a TFLiteConverter; called with the converter and the tensorflow package."""


@dataclass(frozen=True, eq=False)
class Source:
    """A Keras backbone to convert, and how.

    `model` maps normalised images, float32 (n, h, w, 3), to embeddings (n, d). `normalization` is (offset, scale): the
    model sees (pixel - offset) / scale. `frames` to calibrate on are uint8 (h, w, 3), and empty for a format without
    calibration. `range_quantile` and `float_tensors` are those of `ConversionOptions`.
    """

    model: Model
    preprocess: Preprocess
    normalization: tuple[float, float]
    frames: Sequence[np.ndarray] = ()
    range_quantile: Optional[float] = None
    float_tensors: tuple[str, ...] = ()

    def normalized_frames(self) -> list[np.ndarray]:
        """What the model sees of each frame, float32 (1, h, w, 3)."""
        offset, scale = self.normalization
        return [
            ((frame.astype(np.float32) - np.float32(offset)) / np.float32(scale))[np.newaxis] for frame in self.frames
        ]

    def compile_for_pixels(self, configure: Configure) -> bytes:
        """A .tflite file that takes uint8 pixels and normalises them in the graph.

        Raises:
            ConversionError: TensorFlow cannot convert the model.
            MissingExtraError: TensorFlow is not installed.
        """
        offset, scale = self.normalization

        def graph(tf: Any) -> Callable[[Any], Any]:
            return lambda image: self.model((tf.cast(image, tf.float32) - offset) / scale, training=False)

        return self._compile(graph, "uint8", configure)

    def compile_for_normalized(self, configure: Configure) -> bytes:
        """A .tflite file of the model as it is: it takes normalised images.

        Raises:
            ConversionError: TensorFlow cannot convert the model.
            MissingExtraError: TensorFlow is not installed.
        """
        return self._compile(lambda tf: lambda image: self.model(image, training=False), "float32", configure)

    def _compile(self, graph: Callable[[Any], Callable[[Any], Any]], dtype: str, configure: Configure) -> bytes:
        with quiet_tensorflow():
            try:
                import tensorflow as tf
            except ImportError as error:
                raise MissingExtraError("tensorflow and tf_keras", "host", "converting a model") from error
            try:
                image = tf.TensorSpec((1, *self.preprocess.size, 3), tf.as_dtype(dtype), name="image")
                concrete = tf.function(graph(tf)).get_concrete_function(image)
                # Avoids the detour over a SavedModel, which takes as long as the conversion itself.
                converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], self.model)
                converter.experimental_lower_to_saved_model = False
                converter.exclude_conversion_metadata = True
                configure(converter, tf)
                return bytes(converter.convert())
            except Exception as error:  # TensorFlow raises whatever its layers happen to raise
                raise ConversionError(f"TensorFlow cannot convert {self.model.name}: {_summary(error)}") from error


def _summary(error: BaseException) -> str:
    """The most informative line of TensorFlow's message; the others are its own call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if "error:" in line] or lines or [type(error).__name__]
    return informative[0][:300]
