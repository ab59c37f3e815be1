"""Emulates int8 quantization in a float network (fake quantization).

In the forward pass each value is rounded to the nearest int8 step; the gradient passes unchanged for values within
range (Jacob et al. 2018, arXiv 1712.05877, section 3). The scheme is TFLite's: weights are symmetric with a scale for
each output channel, activations have one scale and zero point.

tensorflow-model-optimization emulates a different scheme for these networks: a single scale for a whole depthwise
kernel, and none for the weights of a convolution that is followed by a ReLU after BatchNorm is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tf_keras

_layers = tf_keras.layers
_WITH_KERNEL = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)
_FUSED = (_layers.ReLU, _layers.Activation)
_RESHAPING = (_layers.Flatten, _layers.InputLayer, _layers.MaxPooling2D, _layers.Reshape, _layers.ZeroPadding2D)

Range = tuple[float, float]


def with_fake_quantization(model: tf_keras.Model, images: Iterable[np.ndarray]) -> tf_keras.Model:
    """A copy of the model, whose BatchNorm is folded, that computes what its int8 version will compute.

    `images` are batches of normalised images, (n, h, w, 3) float32, from which the ranges of activations are taken.
    The copy's weights are float and in the same order, so that they can be set on the model.
    """
    ranges = _ranges(model, images)

    def rebuild(layer: Any) -> Any:
        return _quantized_class(type(layer), ranges.get(layer.name)).from_config(layer.get_config())

    copy = tf_keras.models.clone_model(model, clone_function=rebuild)
    copy.set_weights(model.get_weights())
    return copy


def _ranges(model: tf_keras.Model, images: Iterable[np.ndarray]) -> dict[str, Range]:
    """The smallest and largest value, including 0, of every output that int8 stores."""
    names = [layer.name for layer in model.layers if _is_stored(layer)]
    probe = tf_keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    low, high = np.zeros(len(names)), np.zeros(len(names))
    for batch in images:
        outputs = probe(batch, training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        low = np.minimum(low, [float(tf.reduce_min(output)) for output in outputs])
        high = np.maximum(high, [float(tf.reduce_max(output)) for output in outputs])
    return {name: (lowest, highest) for name, lowest, highest in zip(names, low, high) if highest > lowest}


def _is_stored(layer: Any) -> bool:
    """Whether the output of the layer is a separate tensor in the compiled model."""
    consumers = [node.layer for node in layer.outbound_nodes]
    fused = bool(consumers) and all(isinstance(consumer, _FUSED) for consumer in consumers)
    return not fused and not isinstance(layer, _RESHAPING)


def _quantized_class(kind: Any, output: Optional[Range]) -> Any:
    """The layer class with rounded weights, and with a rounded output if it has a range."""

    class FakeQuantized(kind):  # type: ignore[misc]
        """Computes in float what the int8 layer will compute."""

        def call(self, inputs: Any) -> Any:
            """The layer's output, computed with rounded weights, and rounded."""
            result = _with_rounded_kernel(self, super().call, inputs)
            return result if output is None else tf.quantization.fake_quant_with_min_max_args(result, *output)

    FakeQuantized.__name__ = kind.__name__
    return FakeQuantized


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def _with_rounded_kernel(layer: Any, call: Callable[[Any], Any], inputs: Any) -> Any:
    if not isinstance(layer, _WITH_KERNEL):
        return call(inputs)
    name = "depthwise_kernel" if isinstance(layer, _layers.DepthwiseConv2D) else "kernel"
    kernel = getattr(layer, name)
    object.__setattr__(layer, name, _rounded(kernel, is_depthwise=name != "kernel"))
    try:
        return call(inputs)
    finally:
        object.__setattr__(layer, name, kernel)


def _rounded(kernel: tf.Variable, is_depthwise: bool) -> tf.Tensor:
    """The kernel rounded to 255 steps around 0, for each output channel."""
    flat = tf.reshape(kernel, (kernel.shape[0], kernel.shape[1], 1, -1)) if is_depthwise else kernel
    largest = tf.maximum(tf.reduce_max(tf.abs(flat), axis=list(range(len(flat.shape) - 1))), 1e-12)
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        flat, tf.stop_gradient(-largest), tf.stop_gradient(largest), narrow_range=True
    )
    return tf.reshape(rounded, kernel.shape)
