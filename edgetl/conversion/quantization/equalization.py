"""Cross-layer equalisation: makes the channels of a tensor equally large, so that one int8 scale suits all of them.

`pipeline` repairs a model with it that int8 spoils; the function that the model computes stays the same.

A channel times f, in every layer that writes it, and divided by f in every layer that reads it, changes nothing in
between but the size of that channel (Nagel et al. 2019, arXiv 1906.04721, section 4.1). TFLite gives a weight tensor
a scale for each channel that it writes, so what the paper balances on the writing side does not matter here;
activations have one scale for all channels, so their ranges take that side, as in Xiao et al. 2022 (arXiv 2211.10438,
equation 4 with alpha 1/2): f = sqrt(range of the reading weights / range of the activation).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tf_keras

_layers = tf_keras.layers
_WEIGHING = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)
_CHANNELWISE = (
    _layers.Add,
    _layers.AveragePooling2D,
    _layers.GlobalAveragePooling2D,
    _layers.MaxPooling2D,
    _layers.ZeroPadding2D,
)
_ACTIVATIONS = (_layers.ReLU, _layers.Activation)

HEADROOM = 0.5
"""A channel under a ceiling, such as that of ReLU6, may grow until its largest value seen is this share of it."""

_SMALLEST = 1e-4
"""Of the largest channel: what is smaller is taken as so large, or noise would be blown up."""

_BATCH = 16


@dataclass(eq=False)
class ScaleGroup:
    """Tensors that must share the factor of each channel, because layers without weights join them.

    `writers` and `readers` are the layers whose weights take the factors, `tensors` the layers whose outputs belong
    to the group. `ceiling` is the lowest that an activation has; a `pinned` group must stay as it is.
    """

    tensors: list[str] = field(default_factory=list)
    writers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    ceiling: float = np.inf
    pinned: bool = False


def equalize(model: tf_keras.Model, frames: Sequence[np.ndarray], normalization: tuple[float, float]) -> tf_keras.Model:
    """A new model, the same function of the image, whose channels are as equal as its layers allow.

    `frames` are uint8 (h, w, 3), which the model sees as (pixel - offset) / scale: they show how large each channel
    becomes. BatchNorm must be folded into the convolutions, or what lies before and behind it stays as it is. Under
    a ceiling (ReLU6) a channel that reaches it keeps its size, and another one stays below it on all these frames.
    """
    groups = [group for group in scale_groups(model) if not group.pinned]
    names = [name for group in groups for name in group.tensors]
    ranges = _activation_ranges(model, names, frames, normalization)
    factors = [_factors(model, group, np.max([ranges[name] for name in group.tensors], axis=0)) for group in groups]
    return rescale(model, list(zip(groups, factors)))


def scale_groups(model: tf_keras.Model) -> list[ScaleGroup]:
    """The groups of a flat model, in order of execution; the input and the output are in pinned ones."""
    group_of: dict[str, ScaleGroup] = {}
    for layer in model.layers:
        sources = [group_of[name] for name in _sources(layer)]
        joined = _keeps_channels(layer) and bool(sources)
        group = _merged(sources, group_of) if joined else ScaleGroup()
        group.tensors.append(layer.name)
        group_of[layer.name] = group
        if _is_weighing(layer):
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
    """A new model in which the tensors of each group are larger by its factors (channels,), channel by channel."""
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
    """One group of several; who looks a tensor of theirs up finds it."""
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


def _is_weighing(layer: Any) -> bool:
    """A layer whose weights can take factors: scaling its output is scaling the sum that it computes."""
    return (
        isinstance(layer, _WEIGHING)
        and getattr(layer, "groups", 1) == 1
        and layer.activation in (tf_keras.activations.linear, tf_keras.activations.relu)
        and len(layer.inbound_nodes) == 1
    )


def _keeps_channels(layer: Any) -> bool:
    """A layer that only passes channels on, and scaled ones scaled, up to a ceiling."""
    if len(layer.inbound_nodes) != 1:
        return False
    if isinstance(layer, _layers.ReLU):
        return float(layer.threshold) == 0.0
    if isinstance(layer, _layers.Activation):
        return layer.activation in (tf_keras.activations.linear, tf_keras.activations.relu)
    return isinstance(layer, _CHANNELWISE)


def _is_compiled_away(layer: Any) -> bool:
    """Whether the output only feeds an activation, which the converter fuses with the layer: it is never quantized."""
    readers = [node.layer for node in layer.outbound_nodes]
    return bool(readers) and all(isinstance(reader, _ACTIVATIONS) for reader in readers)


def _activation_ranges(
    model: tf_keras.Model, names: list[str], frames: Sequence[np.ndarray], normalization: tuple[float, float]
) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel of the named outputs; zeros where int8 never sees the output."""
    seen = [name for name in names if not _is_compiled_away(model.get_layer(name))]
    ranges = {name: np.zeros(model.get_layer(name).output_shape[-1]) for name in names}
    if not seen:
        return ranges
    probe = tf_keras.Model(model.inputs, [model.get_layer(name).output for name in seen])
    offset, scale = normalization
    for first in range(0, len(frames), _BATCH):
        pixels = np.stack(frames[first : first + _BATCH]).astype(np.float32)
        outputs = probe((pixels - np.float32(offset)) / np.float32(scale), training=False)
        for name, output in zip(seen, outputs if isinstance(outputs, list) else [outputs]):
            values = np.abs(output.numpy()).reshape(-1, output.shape[-1])
            ranges[name] = np.maximum(ranges[name], values.max(axis=0))
    return ranges


def _factors(model: tf_keras.Model, group: ScaleGroup, activation: np.ndarray) -> np.ndarray:
    """What each channel of the group is multiplied by, (channels,)."""
    if not group.readers or not activation.max() > 0:
        return np.ones_like(activation)
    reading = np.max([_reading_range(model.get_layer(name), activation) for name in group.readers], axis=0)
    has_own_scales = reading.max() == 0  # only depthwise kernels read it
    factors = 1.0 / _floored(activation) if has_own_scales else np.sqrt(_floored(reading) / _floored(activation))
    factors *= activation.max() / (activation * factors).max()
    if np.isfinite(group.ceiling):
        largest = HEADROOM * group.ceiling / np.maximum(activation, 1e-12)
        factors = np.where(activation >= group.ceiling, 1.0, np.minimum(factors, np.maximum(largest, 1.0)))
    return factors


def _floored(ranges: np.ndarray) -> np.ndarray:
    return np.maximum(ranges, _SMALLEST * ranges.max())


def _reading_range(layer: Any, activation: np.ndarray) -> np.ndarray:
    """Per channel read, its largest weight, relative to the largest contribution to the same sum.

    So a channel's range falls by just as much as its activation has grown, whatever the others are.
    """
    kernel = np.abs(layer.get_weights()[0])
    if isinstance(layer, _layers.DepthwiseConv2D):
        return np.zeros(kernel.shape[2])
    kernel = kernel.reshape(-1, *kernel.shape[-2:]).max(axis=0)
    contribution = (kernel * activation[:, np.newaxis]).max(axis=0)
    return (kernel / np.maximum(contribution, 1e-30)).max(axis=1)


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
