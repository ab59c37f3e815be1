"""Hides which weights of a kernel stay zero, and which stay equal, while it is trained; `quantization_aware` calls it.

What was made easier to compress stays so: sparsity- and cluster-preserving training (PQAT, CQAT and both, PCQAT, in
the words of tensorflow-model-optimization), as a projection after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tf_keras

MOST_VALUES = 128
"""That the weights of a kernel share, so that they count as clustered."""

_INT8_STEPS = 127
_CLOSE = 1e-3

Projection = Callable[[tf.Tensor, bool], tf.Tensor]
"""A kernel with its zeros and shared values put back; with True the values lie on int8's steps."""


class Preserved:
    """The zeros and the shared values that a model's convolutions and dense layers have now.

    Shared are the values beside a scale for each output channel, the largest weight of the channel: so int8, which
    has just these scales, has as many values. Depthwise kernels are left alone.
    """

    def __init__(self, model: tf_keras.Model) -> None:
        kernels = [layer.kernel for layer in model.layers if _is_dense_over_channels(layer)]
        found = [(kernel, _projection(kernel.numpy())) for kernel in kernels]
        self._projections = [(kernel, projection) for kernel, projection in found if projection is not None]

    def restore(self) -> None:
        """After a step: what was zero is zero, and what shared a value takes the mean of those that it now has."""
        for kernel, projection in self._projections:
            kernel.assign(projection(kernel, False))

    def settle(self) -> None:
        """After the last step: shared values go to where int8 will round them, in all channels alike."""
        for kernel, projection in self._projections:
            kernel.assign(projection(kernel, True))


def _is_dense_over_channels(layer: Any) -> bool:
    layers = tf_keras.layers
    return isinstance(layer, (layers.Conv2D, layers.Dense)) and not isinstance(layer, layers.Conv2DTranspose)


def _projection(kernel: np.ndarray) -> Optional[Projection]:
    """None where no weight is zero, and none are shared."""
    axes = tuple(range(kernel.ndim - 1)) if kernel.ndim == 4 else None
    largest = np.abs(kernel).max(axis=axes, keepdims=True)
    scales = np.where(largest > 0, largest, 1.0).astype(np.float32)
    steps = _INT8_STEPS * kernel / scales
    values, groups = np.unique(np.rint(steps), return_inverse=True)
    if len(values) <= MOST_VALUES and np.abs(steps - np.rint(steps)).max() < _CLOSE:
        groups = groups.reshape(kernel.shape).astype(np.int32)
        return partial(_clustered, scales, groups, (values / _INT8_STEPS).astype(np.float32))
    if not kernel.all():
        return partial(_sparse, (kernel != 0).astype(np.float32))
    return None


def _sparse(mask: np.ndarray, kernel: tf.Tensor, settle: bool) -> tf.Tensor:
    return kernel * mask


def _clustered(
    scales: np.ndarray, groups: np.ndarray, before: np.ndarray, kernel: tf.Tensor, settle: bool
) -> tf.Tensor:
    """Zero and the largest values stay where they were: the one is worth keeping, the others are the scale."""
    sums = tf.math.unsorted_segment_sum(kernel / scales, groups, len(before))
    means = tf.clip_by_value(sums / np.bincount(groups.ravel()), -1.0, 1.0)
    values = tf.where(np.isin(before, (-1.0, 0.0, 1.0)), before, means)
    return tf.gather(tf.round(_INT8_STEPS * values) / _INT8_STEPS if settle else values, groups) * scales
