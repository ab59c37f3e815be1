"""Makes a backbone's weights easier to compress, with tensorflow-model-optimization; `pipeline` calls it.

Most weights become zero, or share a few values, or both: the download gets smaller. The model keeps its shape, and
XNNPACK's int8 kernels take as long as before. Post-training quantization keeps zeros and shared values as they are,
and so does the quantization-aware training of `training`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from edgetl.backbones import tf_keras
from edgetl.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from tf_keras import Model

Train = Callable[[Any, Sequence[Any]], None]
"""Trains the model in place with these Keras callbacks, for as many steps as it was promised."""

TWO_OF_FOUR = "2:4"
FEWEST_CLUSTERS, MOST_CLUSTERS = 3, 128
"""Minus one, zero and one at least; int8 has twice as many values as the most."""

_INT8_STEPS = 127
_UPDATES, _RISING = 20, 12
"""How often the zeros are chosen anew if they were until the end, and in how many of these sparsity rises: what is
left of the steps mends, with the zeros fixed."""


@dataclass(frozen=True)
class SparsityOptions:
    """How weights are made easier to compress; one of the two at least, and clusters keep the zeros where both are.

    `sparsity` is the share of each layer's weights that becomes zero, or "2:4": two of any four neighbours;
    `clusters` how many values at most the weights of a convolution take in int8, zero among them.
    """

    sparsity: Union[float, str, None] = None
    clusters: Optional[int] = None

    def __post_init__(self) -> None:
        if self.sparsity is None and self.clusters is None:
            raise OptionError("give sparsity, clusters, or both")
        known = self.sparsity in (None, TWO_OF_FOUR)
        if not known and not (isinstance(self.sparsity, float) and 0 < self.sparsity < 1):
            raise OptionError(f"sparsity is {self.sparsity}; choose more than 0 and less than 1, or {TWO_OF_FOUR}")
        if self.clusters is not None and not FEWEST_CLUSTERS <= self.clusters <= MOST_CLUSTERS:
            raise OptionError(f"clusters is {self.clusters}; choose {FEWEST_CLUSTERS} to {MOST_CLUSTERS}")


def sparsify(model: Model, sparsity: Union[float, str], steps: int, train: Train) -> Model:
    """A copy in which that share of the weights of every convolution and dense layer is zero.

    Which ones: the smallest beside the others of their output channel, for a folded BatchNorm makes whole channels
    large or small. Depthwise kernels stay dense: they are few, and each counts. Sparsity rises along a cubic
    polynomial (Zhu and Gupta 2017, arXiv 1710.01878) while `train` trains for `steps` steps. Raises MissingExtraError.
    """
    keras = _tfmot().sparsity.keras
    every = max(1, steps // _UPDATES)
    if sparsity == TWO_OF_FOUR:
        settings = {
            "pruning_schedule": keras.ConstantSparsity(0.5, begin_step=0, frequency=every),
            "sparsity_m_by_n": (2, 4),
        }
    else:
        settings = {"pruning_schedule": keras.PolynomialDecay(0.0, sparsity, 0, _RISING * every, frequency=every)}
    scales = _scales_of(model, _root_mean_square)
    wrapped = _wrapped(_relative(model, scales), lambda layer: keras.prune_low_magnitude(layer, **settings))
    train(wrapped, [keras.UpdatePruningStep()])
    sparse = _unwrapped(model, keras.strip_pruning(wrapped))
    for name, scale in scales.items():
        kernel, *bias = sparse.get_layer(name).get_weights()
        sparse.get_layer(name).set_weights([kernel * scale, *bias])
    return sparse


def cluster(model: Model, clusters: int, train: Train, keep_zeros: bool = False) -> Model:
    """A copy in which the weights of a convolution have at most `clusters` values, times a scale for each channel.

    The scale is the largest weight of the channel, and the values are multiples of a 127th of it. Int8 has just this
    scale and these steps, so that it has as many values, the same ones in every channel. A dense layer has one scale
    in all. Depthwise kernels stay as they are, and with `keep_zeros` the zeros do. Raises MissingExtraError.
    """
    keras = _tfmot().clustering.keras
    scales = _scales_of(model, _largest)
    wrapped = _wrapped(
        _relative(model, scales),
        lambda layer: keras.cluster_weights(
            layer,
            number_of_clusters=clusters if keep_zeros else clusters - 1,  # zero is one: int8 has it for dead channels
            cluster_centroids_init=keras.CentroidInitialization.LINEAR,
            preserve_sparsity=keep_zeros,
        ),
    )
    train(wrapped, [_bounding(wrapped)])
    clustered = _unwrapped(model, keras.strip_clustering(wrapped))
    for layer in filter(_is_large, clustered.layers):
        kernel, *bias = layer.get_weights()
        if layer.name in scales:
            scale, relative = scales[layer.name], _reaching_one(kernel, model.get_layer(layer.name).kernel.numpy())
        else:
            scale = np.abs(kernel).max()
            relative = kernel / scale
        layer.set_weights([np.rint(relative * _INT8_STEPS) / _INT8_STEPS * scale, *bias])
    return clustered


def zero_share(model: Model) -> float:
    """How many of the weights that can be made sparse are zero, 0..1."""
    kernels = [layer.kernel.numpy() for layer in model.layers if _is_large(layer)]
    return float(sum(np.sum(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels))


def _tfmot() -> Any:
    tf_keras()
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise MissingExtraError("tensorflow-model-optimization", "host", "making weights sparse") from error
    return tensorflow_model_optimization


def _wrapped(model: Model, wrap: Callable[[Any], Any]) -> Model:
    """A copy with its own weights and wrapped large layers: wrapping shares layers with the model that it is given."""
    keras = tf_keras()
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return keras.models.clone_model(copy, clone_function=lambda layer: wrap(layer) if _is_large(layer) else layer)


def _relative(model: Model, scales: Mapping[str, np.ndarray]) -> Model:
    """The same function with kernels that are divided by the scales, which stand beside them."""

    def rebuild(layer: Any) -> Any:
        if layer.name not in scales:
            return type(layer).from_config(layer.get_config())
        return _scaled_convolution()(scales[layer.name].tolist(), **layer.get_config())

    relative = tf_keras().models.clone_model(model, clone_function=rebuild)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in scales:
            weights[0] = weights[0] / scales[layer.name]
        relative.get_layer(layer.name).set_weights(weights)
    return relative


@functools.cache
def _scaled_convolution() -> type:
    """A Conv2D whose kernel is multiplied by a scale for each output channel."""

    keras = _tfmot()
    bases = (keras.sparsity.keras.PrunableLayer, keras.clustering.keras.ClusterableLayer)

    class Scaled(tf_keras().layers.Conv2D, *bases):  # type: ignore[misc]
        def __init__(self, scales: list[float], **configuration: Any) -> None:
            super().__init__(**configuration)
            self.scales = scales

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "scales": self.scales}

        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(inputs, kernel) * self.scales

        def get_clusterable_weights(self) -> list[tuple[str, Any]]:
            return [("kernel", self.kernel)]

        def get_prunable_weights(self) -> list[Any]:
            return [self.kernel]

    return Scaled


def _bounding(wrapped: Model) -> Any:
    """A callback that keeps a convolution's outermost centroids at -1 and 1, and all others between.

    So the largest weight of a channel remains its scale, whichever sign it has.
    """
    layers = [layer for layer in wrapped.layers if isinstance(getattr(layer, "layer", None), _scaled_convolution())]

    def bound() -> None:
        for layer in layers:
            centroids = layer.cluster_centroids["kernel"]
            centroids.assign([-1.0, *np.clip(centroids.numpy()[1:-1], -1.0, 1.0), 1.0])

    after_each = tf_keras().callbacks.LambdaCallback
    return after_each(on_train_begin=lambda logs: bound(), on_batch_end=lambda batch, logs: bound())


def _reaching_one(kernel: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Relative weights that reach 1 in every channel also where training took the largest one off its centroid."""
    flat, peaks = kernel.reshape(-1, kernel.shape[-1]).copy(), original.reshape(-1, kernel.shape[-1])
    for channel, at in enumerate(np.abs(peaks).argmax(axis=0)):
        if peaks[at, channel] and np.abs(flat[:, channel]).max() < 1:
            flat[at, channel] = np.sign(peaks[at, channel])
    return flat.reshape(kernel.shape)


def _scales_of(model: Model, size: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """How large each convolution's output channels are, (channels,); 1 for a channel of zeros."""
    sizes = {layer.name: size(layer.kernel.numpy()) for layer in model.layers if _is_convolution(layer)}
    return {name: np.where(found > 0, found, 1.0) for name, found in sizes.items()}


def _largest(kernel: np.ndarray) -> np.ndarray:
    return np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))


def _root_mean_square(kernel: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(kernel), axis=tuple(range(kernel.ndim - 1))))


def _unwrapped(model: Model, stripped: Model) -> Model:
    """The weights of `stripped` in a copy of `model`."""
    copy = tf_keras().models.clone_model(model)
    copy.set_weights(stripped.get_weights())
    return copy


def _is_large(layer: Any) -> bool:
    return _is_convolution(layer) or isinstance(layer, tf_keras().layers.Dense)


def _is_convolution(layer: Any) -> bool:
    """Dense over channels: a depthwise convolution is none of this kind."""
    layers = tf_keras().layers
    return isinstance(layer, layers.Conv2D) and not isinstance(layer, layers.Conv2DTranspose)
