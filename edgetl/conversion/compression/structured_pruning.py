"""Makes a backbone physically smaller: the channels go that the photos miss least; `pipeline` calls it.

Which ones: first-order Taylor importance (Molchanov et al. 2019, arXiv 1906.10771), the squared change of each
photo's loss, to first order, when a channel is taken out. Taken out means that its average takes its place (Evci et
al. 2018, Mean Replacement Pruning): a constant moves into the bias of the layer that read it, so a channel that is
always the same, such as a dead one, goes without any change of the function. Channels of all groups compete by
importance for each multiply-accumulate that their removal saves, until the model fits its budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl.backbones import layer_macs, tf_keras
from edgetl.conversion.compression.channel_groups import ChannelGroup, find_groups
from edgetl.errors import ConversionError, OptionError

if TYPE_CHECKING:
    from tf_keras import Model

Batch = tuple[np.ndarray, np.ndarray]
"""Normalised images, float32 (m, h, w, 3), and the columns of their labels, int32 (m,)."""

Loss = Callable[[Any, Any], Any]
"""Embeddings (m, d) and label columns (m,), as tensors, to the loss of each image (m,)."""


@dataclass(frozen=True)
class PruningOptions:
    """How a backbone is pruned.

    `share` is how much of the multiply-accumulates goes. It goes in `rounds` of equal ratio, each ranked on
    `images` training photos and mended by `epochs` of fine-tuning, the last one by `last_epochs`. In one round no
    group of channels falls under `smallest_share` of its width.
    """

    share: float
    rounds: int = 3
    images: int = 256
    epochs: int = 2
    last_epochs: int = 14
    smallest_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise OptionError(f"prune is {self.share}; choose more than 0 and less than 1, such as 0.5")
        for name in ("rounds", "images", "epochs", "last_epochs"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; choose 1 or more")
        if not 0 <= self.smallest_share < 1:
            raise OptionError(f"smallest_share is {self.smallest_share}; choose 0 to less than 1")

    def budgets(self, macs: int) -> tuple[int, ...]:
        """The multiply-accumulates that each round may leave of `macs`."""
        kept = 1 - self.share
        return tuple(math.floor(macs * kept ** (number / self.rounds)) for number in range(1, self.rounds + 1))


@dataclass(frozen=True, eq=False)
class Importance:
    """`scores` of each group's channels, (width,) float64, and the `means` that each consumer reads, (width,)."""

    scores: Mapping[str, np.ndarray]
    means: Mapping[str, np.ndarray]


def prune(
    model: Model,
    budget: int,
    batches: Iterable[Batch],
    loss: Loss,
    multiple: int = 8,
    smallest_share: float = PruningOptions.smallest_share,
) -> Model:
    """A smaller model of the same input, output and names, with at most `budget` multiply-accumulates.

    `batches` are what importance is measured on, by `loss`. Widths become multiples of `multiple`. The given model
    stays as it is. Raises ConversionError where the model has no channels that can go, or too few.
    """
    groups = find_groups(model)
    if not groups:
        raise ConversionError(
            f"{model.name} has no channels that can be removed: all of them meet a shortcut, the output or a layer "
            "that edgetl does not know; leave --prune out"
        )
    importance = measure_importance(model, groups, batches, loss)
    kept = choose_channels(model, groups, importance.scores, budget, multiple, smallest_share)
    return keep_channels(model, groups, kept, importance.means)


def measure_importance(
    model: Model, groups: Sequence[ChannelGroup], batches: Iterable[Batch], loss: Loss
) -> Importance:
    """What the loss and the layers behind would miss of every channel.

    For a photo, the change of its loss is the sum, over the inputs of the consumers and their positions, of
    gradient x (activation - mean); the score is the mean of its square over the photos.
    """
    import tensorflow as tf

    taps = {name: model.get_layer(name).input for group in groups for name in group.consumers}
    tensors = {id(tensor): tensor for tensor in taps.values()}
    tapped = tf_keras().Model(model.inputs, [*tensors.values(), *model.outputs])

    @tf.function(reduce_retracing=True)
    def products(images: Any, labels: Any) -> list[tuple[Any, Any, Any]]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            *values, embeddings = tapped(images, training=False)
            losses = loss(embeddings, labels)
        gradients = tape.gradient(losses, values)
        return [
            (_over_positions(tf, gradient * value), _over_positions(tf, gradient), _over_positions(tf, value))
            for gradient, value in zip(gradients, values)
        ]

    measured = [products(tf.constant(images), tf.constant(labels)) for images, labels in batches]
    changes, means = {}, {}
    for tensor, parts in zip(tensors, zip(*measured)):
        product, gradient, value = (np.concatenate(part).astype(np.float64) for part in zip(*parts))
        means[tensor] = value.mean(axis=0) / math.prod(tensors[tensor].shape[1:-1])
        changes[tensor] = product - gradient * means[tensor]
    scores = {}
    for group in groups:
        inputs = dict.fromkeys(id(taps[name]) for name in group.consumers)
        scores[group.name] = np.mean(np.square(sum(changes[tensor] for tensor in inputs)), axis=0)
    return Importance(scores, {name: means[id(tensor)] for name, tensor in taps.items()})


def choose_channels(
    model: Model,
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, np.ndarray],
    budget: int,
    multiple: int = 8,
    smallest_share: float = PruningOptions.smallest_share,
) -> dict[str, np.ndarray]:
    """The channels to keep of each group, sorted, so that at most `budget` multiply-accumulates remain.

    The next to go are always those, down to the group's next lower multiple, whose importance for each
    multiply-accumulate saved is least. Raises ConversionError where the budget cannot be met.
    """
    plan = _Plan(model, groups)
    ranked = {name: np.argsort(-values, kind="stable") for name, values in scores.items()}
    lost = {name: np.concatenate([[0.0], np.cumsum(np.sort(values))]) for name, values in scores.items()}
    floors = {group.name: max(multiple, math.ceil(smallest_share * group.width)) for group in groups}

    def price(name: str) -> float:
        width, smaller, whole = plan.widths[name], _below(plan.widths[name], multiple), len(ranked[name])
        return (lost[name][whole - smaller] - lost[name][whole - width]) / plan.saving(name, smaller)

    while plan.macs() > budget:
        open_groups = [name for name, width in plan.widths.items() if _below(width, multiple) >= floors[name]]
        if not open_groups:
            raise ConversionError(
                f"{model.name} keeps {plan.macs():,} multiply-accumulates when all is gone that may go, "
                f"more than the {budget:,} asked for; prune less, or choose a smaller backbone: edgetl backbones"
            )
        cheapest = min(open_groups, key=price)
        plan.widths[cheapest] = _below(plan.widths[cheapest], multiple)
    return {name: np.sort(ranked[name][:width]) for name, width in plan.widths.items()}


def keep_channels(
    model: Model, groups: Sequence[ChannelGroup], kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray]
) -> Model:
    """A copy of the model that has only the `kept` channels of its groups; `means` take the place of the others.

    The copy is the same function where the others are constant, but for the borders of padded consumers wider
    than one position.
    """
    made = {name: kept[group.name] for group in groups for name in group.producers}
    passed = {name: kept[group.name] for group in groups for name in group.members}
    read = {name: kept[group.name] for group in groups for name in group.consumers}

    def rebuild(layer: Any) -> Any:
        configuration = layer.get_config()
        if layer.name in made:
            configuration["units" if "units" in configuration else "filters"] = len(made[layer.name])
        if layer.name in read:
            configuration["use_bias"] = True
        return type(layer).from_config(configuration)

    smaller = tf_keras().models.clone_model(model, clone_function=rebuild)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in passed:
            weights = [_of_channels(weight, passed[layer.name]) for weight in weights]
        if layer.name in read:
            weights = _reading(weights, read[layer.name], means[layer.name])
        if layer.name in made:
            weights = [weight[..., made[layer.name]] for weight in weights]
        smaller.get_layer(layer.name).set_weights(weights)
    return smaller


class _Plan:
    """The widths of all groups while channels go, and what the model costs with them."""

    def __init__(self, model: Model, groups: Sequence[ChannelGroup]) -> None:
        self.widths = {group.name: group.width for group in groups}
        self._whole = dict(self.widths)
        touching = {name: [group.name for group in groups if name in group.layers] for name in _names(model)}
        costs = [(layer_macs(layer), touching[layer.name]) for layer in model.layers]
        self._costs = [(cost, names) for cost, names in costs if cost]

    def macs(self) -> int:
        """Multiply-accumulates with the widths as they are."""
        return round(sum(self._left(cost, names, self.widths) for cost, names in self._costs))

    def saving(self, name: str, width: int) -> float:
        """How many go when one group falls to `width`."""
        after = {**self.widths, name: width}
        concerned = [(cost, names) for cost, names in self._costs if name in names]
        return sum(self._left(cost, names, self.widths) - self._left(cost, names, after) for cost, names in concerned)

    def _left(self, cost: int, names: list[str], widths: Mapping[str, int]) -> float:
        return cost * math.prod(widths[name] / self._whole[name] for name in names)


def _names(model: Model) -> list[str]:
    return [layer.name for layer in model.layers]


def _below(width: int, multiple: int) -> int:
    """The next lower multiple."""
    return (width - 1) // multiple * multiple


def _over_positions(tf: Any, values: Any) -> Any:
    """(m, ..., c), summed to (m, c)."""
    return tf.reduce_sum(values, axis=list(range(1, len(values.shape) - 1)))


def _of_channels(weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Of a layer that handles channels one by one: vectors, or a depthwise kernel (h, w, channels, 1)."""
    return weight[:, :, kept] if weight.ndim == 4 else weight[kept]


def _reading(weights: list[np.ndarray], kept: np.ndarray, means: np.ndarray) -> list[np.ndarray]:
    """Kernel and bias of a consumer; the bias takes over what the other channels give on average."""
    kernel, *bias = weights
    gone = np.setdiff1d(np.arange(kernel.shape[-2]), kept)
    shift = means[gone] @ kernel.sum(axis=tuple(range(kernel.ndim - 2)))[gone]
    return [kernel[..., kept, :], shift + bias[0] if bias else shift]
