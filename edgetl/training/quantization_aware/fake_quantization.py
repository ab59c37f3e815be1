"""Hides how a network computes in float what int8 will make of it; `quantization_aware` trains through it.

Each value is rounded to the step that int8 gives it, in the forward pass; the gradient passes as if nothing had
happened, where the value is within range (Jacob et al. 2018, arXiv 1712.05877, section 3). TFLite's scheme:
weights symmetric with a scale for each channel that they write, activations with one scale and zero point.

tensorflow-model-optimization emulates another one on these networks: a single scale for all of a depthwise kernel, and
none for the weights of a convolution with a ReLU behind it once BatchNorm is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tf_keras

_layers = tf_keras.layers
_WEIGHING = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)
_FUSED = (_layers.ReLU, _layers.Activation)
_RESHAPING = (_layers.Flatten, _layers.InputLayer, _layers.MaxPooling2D, _layers.Reshape, _layers.ZeroPadding2D)

Range = tuple[float, float]


def emulate(model: tf_keras.Model, images: Iterable[np.ndarray]) -> tf_keras.Model:
    """A copy with weights of its own that computes as its int8 version will; BatchNorm must be folded.

    `images` are batches of normalised float32 (n, h, w, 3); they give the activations their ranges. The copy's
    weights are float and in the order of the model's, so `set_weights` takes them back.
    """
    ranges = _ranges(model, images)

    def rebuild(layer: Any) -> Any:
        return _emulating(type(layer), ranges.get(layer.name)).from_config(layer.get_config())

    copy = tf_keras.models.clone_model(model, clone_function=rebuild)
    copy.set_weights(model.get_weights())
    return copy


def _ranges(model: tf_keras.Model, images: Iterable[np.ndarray]) -> dict[str, Range]:
    """Smallest and largest value of every output that int8 stores, 0 within."""
    names = [layer.name for layer in model.layers if _is_stored(layer)]
    probe = tf_keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    low, high = np.zeros(len(names)), np.zeros(len(names))
    for batch in images:
        outputs = probe(batch, training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        low = np.minimum(low, [float(tf.reduce_min(output)) for output in outputs])
        high = np.maximum(high, [float(tf.reduce_max(output)) for output in outputs])
    return {name: (least, most) for name, least, most in zip(names, low, high) if most > least}


def _is_stored(layer: Any) -> bool:
    """Whether the output of the layer is a tensor of its own in the compiled model."""
    readers = [node.layer for node in layer.outbound_nodes]
    fused = bool(readers) and all(isinstance(reader, _FUSED) for reader in readers)
    return not fused and not isinstance(layer, _RESHAPING)


def _emulating(kind: Any, output: Optional[Range]) -> Any:
    """The layer class with rounded weights, and with a rounded output where it has a range."""

    class Emulating(kind):  # type: ignore[misc]
        """Computes in float what int8 will give."""

        def call(self, inputs: Any) -> Any:
            """The layer's output, with its weights and itself rounded."""
            result = _with_rounded_kernel(self, super().call, inputs)
            return result if output is None else tf.quantization.fake_quant_with_min_max_args(result, *output)

    Emulating.__name__ = kind.__name__
    return Emulating


@tf.autograph.experimental.do_not_convert
def _with_rounded_kernel(layer: Any, call: Callable[[Any], Any], inputs: Any) -> Any:
    if not isinstance(layer, _WEIGHING):
        return call(inputs)
    name = "depthwise_kernel" if isinstance(layer, _layers.DepthwiseConv2D) else "kernel"
    kernel = getattr(layer, name)
    object.__setattr__(layer, name, _rounded(kernel, is_depthwise=name != "kernel"))
    try:
        return call(inputs)
    finally:
        object.__setattr__(layer, name, kernel)


def _rounded(kernel: tf.Variable, is_depthwise: bool) -> tf.Tensor:
    """To 255 steps around 0 for each channel that it writes."""
    flat = tf.reshape(kernel, (kernel.shape[0], kernel.shape[1], 1, -1)) if is_depthwise else kernel
    largest = tf.maximum(tf.reduce_max(tf.abs(flat), axis=list(range(len(flat.shape) - 1))), 1e-12)
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        flat, tf.stop_gradient(-largest), tf.stop_gradient(largest), narrow_range=True
    )
    return tf.reshape(rounded, kernel.shape)
