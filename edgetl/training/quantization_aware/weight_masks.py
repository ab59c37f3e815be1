"""Keeps the zeros and the shared values of a model's kernels during training.

This is sparsity- and cluster-preserving training (PQAT, CQAT and PCQAT in tensorflow-model-optimization), done as a
projection after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tf_keras

MOST_VALUES = 128
"""A kernel is clustered if its weights, relative to their scale, have at most this many different values."""

_INT8_STEPS = 127
_CLOSE = 1e-3

Projection = Callable[[tf.Tensor, bool], tf.Tensor]
"""Restores the zeros and shared values of a kernel; with True the shared values are rounded to int8 steps."""


class PreservedWeights:
    """The zeros and shared values of a model's convolutions and dense layers when this object is created.

    Shared values are relative to a scale for each output channel, its largest weight. These are the scales of int8,
    so that the int8 kernel has as few values. Depthwise kernels are ignored.
    """

    def __init__(self, model: tf_keras.Model) -> None:
        kernels = [layer.kernel for layer in model.layers if _is_dense_over_channels(layer)]
        found = [(kernel, _projection(kernel.numpy())) for kernel in kernels]
        self._projections = [(kernel, projection) for kernel, projection in found if projection is not None]

    def restore(self) -> None:
        """After a step, sets zeros to zero, and weights that shared a value to their mean."""
        for kernel, projection in self._projections:
            kernel.assign(projection(kernel, False))

    def round_to_int8(self) -> None:
        """After the last step, restores and rounds shared values to int8 steps, the same in all channels."""
        for kernel, projection in self._projections:
            kernel.assign(projection(kernel, True))


def _is_dense_over_channels(layer: Any) -> bool:
    layers = tf_keras.layers
    return isinstance(layer, (layers.Conv2D, layers.Dense)) and not isinstance(layer, layers.Conv2DTranspose)


def _projection(kernel: np.ndarray) -> Optional[Projection]:
    """The projection for a kernel; None if no weight is zero and no values are shared."""
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


def _sparse(mask: np.ndarray, kernel: tf.Tensor, to_int8: bool) -> tf.Tensor:
    return kernel * mask


def _clustered(
    scales: np.ndarray, groups: np.ndarray, before: np.ndarray, kernel: tf.Tensor, to_int8: bool
) -> tf.Tensor:
    """Zeros and the largest values do not change: zeros are to be kept, and the largest value is the scale."""
    sums = tf.math.unsorted_segment_sum(kernel / scales, groups, len(before))
    means = tf.clip_by_value(sums / np.bincount(groups.ravel()), -1.0, 1.0)
    values = tf.where(np.isin(before, (-1.0, 0.0, 1.0)), before, means)
    return tf.gather(tf.round(_INT8_STEPS * values) / _INT8_STEPS if to_int8 else values, groups) * scales
