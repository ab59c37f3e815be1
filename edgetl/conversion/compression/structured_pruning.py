"""Removes the channels of a backbone that the photos need least, which makes it smaller and faster.

Importance is first-order Taylor importance (Molchanov et al. 2019, arXiv 1906.10771): the squared change of each
photo's loss, to first order, when a channel is removed. A removed channel is replaced by its mean (Evci et al. 2018,
Mean Replacement Pruning): the constant goes into the bias of the layer that reads it, so removing a constant channel,
e.g. a dead one, does not change the function. Channels of all groups compete by importance for each
multiply-accumulate that their removal saves, until the model fits its budget.
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
"""Normalised images, float32 (m, h, w, 3), and their class indices, int32 (m,)."""

Loss = Callable[[Any, Any], Any]
"""From embeddings (m, d) and class indices (m,), as tensors, to the loss of each image (m,)."""


@dataclass(frozen=True)
class PruningOptions:
    """How a backbone is pruned.

    `share` is the share of multiply-accumulates to remove. They are removed in `rounds` of equal ratio. In each round,
    channels are ranked on `images` training photos, and the model is fine-tuned for `epochs` epochs afterwards, in the
    last round for `last_epochs`. No group of channels falls below `smallest_share` of its width in one round.

    Raises:
        OptionError: a value is out of range.
    """

    share: float
    rounds: int = 3
    images: int = 256
    epochs: int = 2
    last_epochs: int = 14
    smallest_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise OptionError(f"prune must be above 0 and below 1, e.g. 0.5, received {self.share}")
        for name in ("rounds", "images", "epochs", "last_epochs"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be 1 or more, received {getattr(self, name)}")
        if not 0 <= self.smallest_share < 1:
            raise OptionError(f"smallest_share must be at least 0 and below 1, received {self.smallest_share}")

    def budgets(self, macs: int) -> tuple[int, ...]:
        """The multiply-accumulates that may remain of `macs` after each round."""
        remaining = 1 - self.share
        return tuple(math.floor(macs * remaining ** (number / self.rounds)) for number in range(1, self.rounds + 1))


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance of channels: `scores` by group, and `means` of the inputs by consumer, all (width,) float64."""

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
    """A smaller model with the same input, output and layer names, and at most `budget` multiply-accumulates.

    Importance is measured on `batches` with `loss`. Widths become multiples of `multiple`. The given model is not
    changed.

    Raises:
        ConversionError: the model has no channels that can be removed, or too few.
    """
    groups = find_groups(model)
    if not groups:
        raise ConversionError(
            f"{model.name} has no channels that can be removed: all reach a shortcut, the output or an unknown "
            "kind of layer; omit --prune"
        )
    importance = measure_importance(model, groups, batches, loss)
    kept = choose_channels(model, groups, importance.scores, budget, multiple, smallest_share)
    return keep_channels(model, groups, kept, importance.means)


def measure_importance(
    model: Model, groups: Sequence[ChannelGroup], batches: Iterable[Batch], loss: Loss
) -> Importance:
    """Measure how much the loss changes if a channel is replaced by its mean.

    For one photo, the change of the loss is the sum, over the inputs of the consumers and their positions, of
    gradient * (activation - mean). The score is the mean over photos of its square.
    """
    import tensorflow as tf

    taps = {name: model.get_layer(name).input for group in groups for name in group.consumers}
    tensors = {id(tensor): tensor for tensor in taps.values()}
    tapped = tf_keras().Model(model.inputs, [*tensors.values(), *model.outputs])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
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
    """The channels to keep in each group, sorted, so that at most `budget` multiply-accumulates remain.

    Groups shrink to their next lower multiple one at a time; each time the group with the least importance for each
    multiply-accumulate saved.

    Raises:
        ConversionError: the budget cannot be met.
    """
    plan = _Plan(model, groups)
    ranked = {name: np.argsort(-values, kind="stable") for name, values in scores.items()}
    lost = {name: np.concatenate([[0.0], np.cumsum(np.sort(values))]) for name, values in scores.items()}
    floors = {group.name: max(multiple, math.ceil(smallest_share * group.width)) for group in groups}

    def price(name: str) -> float:
        width, smaller, whole = plan.widths[name], _below(plan.widths[name], multiple), len(ranked[name])
        return float((lost[name][whole - smaller] - lost[name][whole - width]) / plan.saving(name, smaller))

    while plan.macs() > budget:
        open_groups = [name for name, width in plan.widths.items() if _below(width, multiple) >= floors[name]]
        if not open_groups:
            raise ConversionError(
                f"{model.name} cannot be pruned below {plan.macs():,} multiply-accumulates, more than the "
                f"{budget:,} allowed; prune less, or choose a smaller backbone: edgetl backbones"
            )
        cheapest = min(open_groups, key=price)
        plan.widths[cheapest] = _below(plan.widths[cheapest], multiple)
    return {name: np.sort(ranked[name][:width]) for name, width in plan.widths.items()}


def keep_channels(
    model: Model, groups: Sequence[ChannelGroup], kept: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray]
) -> Model:
    """A copy of the model with only the `kept` channels of its groups; the others are replaced by their `means`.

    If the removed channels are constant, the copy computes the same function, except at the borders of consumers with
    padding and kernels larger than 1x1.
    """
    produced = {name: kept[group.name] for group in groups for name in group.producers}
    processed = {name: kept[group.name] for group in groups for name in group.members}
    consumed = {name: kept[group.name] for group in groups for name in group.consumers}

    def rebuild(layer: Any) -> Any:
        configuration = layer.get_config()
        if layer.name in produced:
            configuration["units" if "units" in configuration else "filters"] = len(produced[layer.name])
        if layer.name in consumed:
            configuration["use_bias"] = True
        return type(layer).from_config(configuration)

    smaller = tf_keras().models.clone_model(model, clone_function=rebuild)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in processed:
            weights = [_kept_channels(weight, processed[layer.name]) for weight in weights]
        if layer.name in consumed:
            weights = _consumer_weights(weights, consumed[layer.name], means[layer.name])
        if layer.name in produced:
            weights = [weight[..., produced[layer.name]] for weight in weights]
        smaller.get_layer(layer.name).set_weights(weights)
    return smaller


class _Plan:
    """The widths of all groups while channels are removed, and the cost of the model with them."""

    def __init__(self, model: Model, groups: Sequence[ChannelGroup]) -> None:
        self.widths = {group.name: group.width for group in groups}
        self._full = dict(self.widths)
        touching = {name: [group.name for group in groups if name in group.layers] for name in _names(model)}
        costs = [(layer_macs(layer), touching[layer.name]) for layer in model.layers]
        self._costs = [(cost, names) for cost, names in costs if cost]

    def macs(self) -> int:
        """Multiply-accumulates with the current widths."""
        return round(sum(self._remaining(cost, names, self.widths) for cost, names in self._costs))

    def saving(self, name: str, width: int) -> float:
        """Multiply-accumulates saved if one group shrinks to `width`."""
        after = {**self.widths, name: width}
        affected = [(cost, names) for cost, names in self._costs if name in names]
        return sum(
            self._remaining(cost, names, self.widths) - self._remaining(cost, names, after) for cost, names in affected
        )

    def _remaining(self, cost: int, names: list[str], widths: Mapping[str, int]) -> float:
        remaining: float = cost * math.prod(widths[name] / self._full[name] for name in names)
        return remaining


def _names(model: Model) -> list[str]:
    return [layer.name for layer in model.layers]


def _below(width: int, multiple: int) -> int:
    """The next lower multiple."""
    return (width - 1) // multiple * multiple


def _over_positions(tf: Any, values: Any) -> Any:
    """Sum (m, ..., c) to (m, c)."""
    return tf.reduce_sum(values, axis=list(range(1, len(values.shape) - 1)))


def _kept_channels(weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The kept part of a per-channel weight: a vector, or a depthwise kernel (h, w, channels, 1)."""
    return weight[:, :, kept] if weight.ndim == 4 else weight[kept]


def _consumer_weights(weights: list[np.ndarray], kept: np.ndarray, means: np.ndarray) -> list[np.ndarray]:
    """Kernel and bias of a consumer; the bias absorbs the mean contribution of the removed channels."""
    kernel, *bias = weights
    removed = np.setdiff1d(np.arange(kernel.shape[-2]), kept)
    shift = means[removed] @ kernel.sum(axis=tuple(range(kernel.ndim - 2)))[removed]
    return [kernel[..., kept, :], shift + bias[0] if bias else shift]
