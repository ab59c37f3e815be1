"""Cross-layer equalization: makes the channels of a tensor similar in range, so that one int8 scale suits all of them.

The function that the model computes stays the same. Multiplying a channel by f in every layer that writes it, and
dividing by f in every layer that reads it, changes only the range of that channel in between (Nagel et al. 2019, arXiv
1906.04721, section 4.1). The paper balances the weights on both sides. Here the writing weights do not matter, because
TFLite gives a weight tensor a scale for each channel that it writes. Activations, which have one scale for all
channels, take their place, as in Xiao et al. 2022 (arXiv 2211.10438, equation 4 with alpha 1/2):
f = sqrt(range of the reading weights / range of the activation).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tf_keras

_layers = tf_keras.layers
_WEIGHTED = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)
_CHANNELWISE = (
    _layers.Add,
    _layers.AveragePooling2D,
    _layers.GlobalAveragePooling2D,
    _layers.MaxPooling2D,
    _layers.ZeroPadding2D,
)
_ACTIVATIONS = (_layers.ReLU, _layers.Activation)

HEADROOM = 0.5
"""A channel with a ceiling, e.g. that of ReLU6, may grow until its largest observed value is this share of it."""

_SMALLEST = 1e-4
"""Lower bound of a channel's range, as a share of the largest; otherwise noise would be amplified."""

_BATCH = 16


@dataclass(eq=False)
class ScaleGroup:
    """Tensors that must share the factor of each channel, because layers without weights connect them.

    `writers` and `readers` are the layers whose weights absorb the factors, `tensors` the layers whose outputs belong
    to the group. `ceiling` is the lowest upper bound of its activations, e.g. 6. A `pinned` group must not be scaled.
    """

    tensors: list[str] = field(default_factory=list)
    writers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    ceiling: float = np.inf
    pinned: bool = False


def equalize(model: tf_keras.Model, frames: Sequence[np.ndarray], normalization: tuple[float, float]) -> tf_keras.Model:
    """A new model that computes the same function, with channels as equal in range as its layers allow.

    `frames` are uint8 (h, w, 3), which the model sees as (pixel - offset) / scale; the range of each channel is
    measured on them. BatchNorm must be folded into the convolutions, otherwise the layers around it are not equalized.
    A channel that reaches a ceiling (ReLU6) keeps its range; the others stay below the ceiling on all these frames.
    """
    groups = [group for group in scale_groups(model) if not group.pinned]
    names = [name for group in groups for name in group.tensors]
    ranges = _activation_ranges(model, names, frames, normalization)
    factors = [_factors(model, group, np.max([ranges[name] for name in group.tensors], axis=0)) for group in groups]
    return rescale(model, list(zip(groups, factors)))


def scale_groups(model: tf_keras.Model) -> list[ScaleGroup]:
    """The groups of a flat model, in order of execution; those of the input and the output are pinned."""
    group_of: dict[str, ScaleGroup] = {}
    for layer in model.layers:
        sources = [group_of[name] for name in _sources(layer)]
        joined = _keeps_channels(layer) and bool(sources)
        group = _merged(sources, group_of) if joined else ScaleGroup()
        group.tensors.append(layer.name)
        group_of[layer.name] = group
        if _is_weighted(layer):
            group.writers.append(layer.name)
            sources[0].readers.append(layer.name)
        elif not joined:
            group.pinned = True
            for source in sources:
                source.pinned = True
        if isinstance(layer, _layers.ReLU) and layer.max_value is not None:
            group.ceiling = min(group.ceiling, float(layer.max_value))
    for name in model.output_names:
        group_of[name].pinned = True
    return list({id(group): group for group in group_of.values()}.values())


def rescale(model: tf_keras.Model, factors: Iterable[tuple[ScaleGroup, np.ndarray]]) -> tf_keras.Model:
    """A new model in which the tensors of each group are multiplied by its factors (channels,)."""
    written = {name: factor for group, factor in factors for name in group.writers}
    read = {name: factor for group, factor in factors for name in group.readers}
    rescaled = tf_keras.models.clone_model(model)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in written or layer.name in read:
            weights = _rescaled(layer, weights, written.get(layer.name), read.get(layer.name))
        rescaled.get_layer(layer.name).set_weights(weights)
    return rescaled


def _merged(groups: list[ScaleGroup], group_of: dict[str, ScaleGroup]) -> ScaleGroup:
    """Merge groups into the first, and update `group_of` for their tensors."""
    first, *others = dict.fromkeys(groups)
    for other in others:
        first.tensors += other.tensors
        first.writers += other.writers
        first.readers += other.readers
        first.ceiling = min(first.ceiling, other.ceiling)
        first.pinned = first.pinned or other.pinned
        group_of.update(dict.fromkeys(other.tensors, first))
    return first


def _sources(layer: Any) -> list[str]:
    if not layer.inbound_nodes or isinstance(layer, _layers.InputLayer):
        return []
    inbound = layer.inbound_nodes[0].inbound_layers
    return [source.name for source in (inbound if isinstance(inbound, list) else [inbound])]


def _is_weighted(layer: Any) -> bool:
    """Whether the layer's weights can absorb factors: scaling its output is scaling the sum that it computes."""
    return (
        isinstance(layer, _WEIGHTED)
        and getattr(layer, "groups", 1) == 1
        and layer.activation in (tf_keras.activations.linear, tf_keras.activations.relu)
        and len(layer.inbound_nodes) == 1
    )


def _keeps_channels(layer: Any) -> bool:
    """Whether the layer passes channels through and commutes with scaling, up to a ceiling."""
    if len(layer.inbound_nodes) != 1:
        return False
    if isinstance(layer, _layers.ReLU):
        return float(layer.threshold) == 0.0
    if isinstance(layer, _layers.Activation):
        return layer.activation in (tf_keras.activations.linear, tf_keras.activations.relu)
    return isinstance(layer, _CHANNELWISE)


def _is_compiled_away(layer: Any) -> bool:
    """Whether the output feeds only activations, which the converter fuses with the layer: it is never quantized."""
    readers = [node.layer for node in layer.outbound_nodes]
    return bool(readers) and all(isinstance(reader, _ACTIVATIONS) for reader in readers)


def _activation_ranges(
    model: tf_keras.Model, names: list[str], frames: Sequence[np.ndarray], normalization: tuple[float, float]
) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel of the named outputs; zeros for outputs that are never quantized."""
    quantized = [name for name in names if not _is_compiled_away(model.get_layer(name))]
    ranges = {name: np.zeros(model.get_layer(name).output_shape[-1]) for name in names}
    if not quantized:
        return ranges
    probe = tf_keras.Model(model.inputs, [model.get_layer(name).output for name in quantized])
    offset, scale = normalization
    for first in range(0, len(frames), _BATCH):
        pixels = np.stack(frames[first : first + _BATCH]).astype(np.float32)
        outputs = probe((pixels - np.float32(offset)) / np.float32(scale), training=False)
        for name, output in zip(quantized, outputs if isinstance(outputs, list) else [outputs]):
            values = np.abs(output.numpy()).reshape(-1, output.shape[-1])
            ranges[name] = np.maximum(ranges[name], values.max(axis=0))
    return ranges


def _factors(model: tf_keras.Model, group: ScaleGroup, activation: np.ndarray) -> np.ndarray:
    """The factor of each channel of the group, (channels,)."""
    if not group.readers or not activation.max() > 0:
        return np.ones_like(activation)
    reading = np.max([_reading_range(model.get_layer(name), activation) for name in group.readers], axis=0)
    only_depthwise = reading.max() == 0  # depthwise kernels have a scale per channel
    factors = 1.0 / _floored(activation) if only_depthwise else np.sqrt(_floored(reading) / _floored(activation))
    factors *= activation.max() / (activation * factors).max()
    if np.isfinite(group.ceiling):
        largest = HEADROOM * group.ceiling / np.maximum(activation, 1e-12)
        factors = np.where(activation >= group.ceiling, 1.0, np.minimum(factors, np.maximum(largest, 1.0)))
    return factors


def _floored(ranges: np.ndarray) -> np.ndarray:
    floored: np.ndarray = np.maximum(ranges, _SMALLEST * ranges.max())
    return floored


def _reading_range(layer: Any, activation: np.ndarray) -> np.ndarray:
    """For each channel read, its largest weight relative to the largest contribution to the same sum.

    So a channel's range shrinks by the factor by which its activation grows, independent of the other channels.
    """
    kernel = np.abs(layer.get_weights()[0])
    if isinstance(layer, _layers.DepthwiseConv2D):
        return np.zeros(kernel.shape[2])
    kernel = kernel.reshape(-1, *kernel.shape[-2:]).max(axis=0)
    contribution = (kernel * activation[:, np.newaxis]).max(axis=0)
    reading: np.ndarray = (kernel / np.maximum(contribution, 1e-30)).max(axis=1)
    return reading


def _rescaled(
    layer: Any, weights: list[np.ndarray], written: np.ndarray | None, read: np.ndarray | None
) -> list[np.ndarray]:
    kernel, *bias = weights
    if written is not None:
        is_depthwise = isinstance(layer, _layers.DepthwiseConv2D)
        kernel = kernel * (written.reshape(kernel.shape[2:]) if is_depthwise else written)
        bias = [value * written for value in bias]
    if read is not None:
        kernel = kernel / read[:, np.newaxis]
    return [kernel, *bias]
