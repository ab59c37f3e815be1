"""Finds the channels of a backbone that can only be removed together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_keras import Model

_CHANNELWISE = frozenset(
    (
        "Activation", "AveragePooling2D", "BatchNormalization", "DepthwiseConv2D", "Dropout",
        "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D", "Multiply", "ReLU", "ZeroPadding2D",
    )
)  # fmt: skip
_DENSE = frozenset(("Conv2D", "Dense"))


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that several layers share, so that channel i must be removed from all of them or from none.

    `producers` are the names of the layers that compute the channels, `members` of those that process each channel
    separately with weights of their own (BatchNorm, depthwise convolutions), `consumers` of those that combine them
    into other channels. `name` is the name of the first producer, `width` the number of channels.
    """

    name: str
    width: int
    producers: tuple[str, ...]
    members: tuple[str, ...]
    consumers: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers whose weights depend on the channels."""
        return (*self.producers, *self.members, *self.consumers)


def find_groups(model: Model) -> tuple[ChannelGroup, ...]:
    """The groups that can lose channels without a change of the model's input or output, in order of execution.

    Channels that reach a shortcut, a concatenation, the output or an unknown kind of layer cannot be removed. In an
    inverted bottleneck the expanded channels can be removed, those between the blocks cannot.
    """
    streams: dict[int, _Stream] = {}
    for layer in model.layers:
        sources = [streams[id(tensor)] for tensor in layer.inbound_nodes[0].keras_inputs]
        stream = _output_stream(layer, sources)
        if stream in sources:
            streams |= {tensor: stream for tensor, known in streams.items() if known in sources}
        streams[id(layer.inbound_nodes[0].outputs)] = stream
    for output in model.outputs:
        streams[id(output)].fixed = True
    return tuple(stream.group() for stream in dict.fromkeys(streams.values()) if stream.is_free)


@dataclass(eq=False)
class _Stream:
    """Tensors that share their channels, collected while the layers are visited."""

    width: int
    fixed: bool = False
    producers: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    consumers: list[str] = field(default_factory=list)

    @property
    def is_free(self) -> bool:
        return not self.fixed and bool(self.producers) and bool(self.consumers)

    def group(self) -> ChannelGroup:
        producers, members, consumers = (tuple(names) for names in (self.producers, self.members, self.consumers))
        return ChannelGroup(producers[0], self.width, producers, members, consumers)


def _output_stream(layer: Any, sources: list[_Stream]) -> _Stream:
    """The stream of the layer's output; records in `sources` what the layer does with them."""
    kind = type(layer).__name__
    output = layer.inbound_nodes[0].outputs
    width = getattr(output, "shape", (0,))[-1] or 0
    supported = len(layer.inbound_nodes) == 1 and _activation(layer) != "softmax"
    if supported and kind in _DENSE and getattr(layer, "groups", 1) == 1:
        sources[0].consumers.append(layer.name)
        return _Stream(width, producers=[layer.name])
    if supported and kind in _CHANNELWISE and _keeps_channels(layer, sources, width):
        stream = _merged(sources)
        stream.members += [layer.name] if layer.weights else []
        return stream
    for source in sources:
        source.fixed = True
    return _Stream(width, fixed=True)


def _keeps_channels(layer: Any, sources: list[_Stream], width: int) -> bool:
    """Whether output channel i depends only on channel i of each input."""
    axis = getattr(layer, "axis", None)  # of BatchNormalization
    last = len(layer.inbound_nodes[0].outputs.shape) - 1
    return all(source.width == width for source in sources) and (axis is None or list(axis) == [last])


def _merged(sources: list[_Stream]) -> _Stream:
    first, *others = dict.fromkeys(sources)
    for other in others:
        first.fixed |= other.fixed
        first.producers += other.producers
        first.members += other.members
        first.consumers += other.consumers
    return first


def _activation(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "")
