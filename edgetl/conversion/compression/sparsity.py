"""Makes a backbone's weights easier to compress, with tensorflow-model-optimization.

Most weights become zero, or share a few values, or both, so that the download gets smaller. The model keeps its shape,
and XNNPACK's int8 kernels are no faster. Post-training quantization preserves zeros and shared values, and so does the
quantization-aware training of `training`.
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
"""Trains the model in place with the given Keras callbacks, for the number of steps that was agreed on."""

TWO_OF_FOUR = "2:4"
MIN_CLUSTERS, MAX_CLUSTERS = 3, 128
"""The least is minus one, zero and one; the most is half of the values of int8."""

_INT8_STEPS = 127
_UPDATES, _RISING = 20, 12
"""Training is divided into `_UPDATES` intervals. Sparsity rises in the first `_RISING` of them, each with a new choice
of zeros; in the rest the weights recover with fixed zeros."""


@dataclass(frozen=True)
class SparsityOptions:
    """How weights are made easier to compress. With both options, clustering keeps the zeros.

    `sparsity` is the share of each layer's weights that becomes zero (0..1), or "2:4" for two of every four neighbours.
    `clusters` is the largest number of distinct int8 values in the weights of a convolution, including zero.

    Raises:
        OptionError: both are None, or one is out of range.
    """

    sparsity: Union[float, str, None] = None
    clusters: Optional[int] = None

    def __post_init__(self) -> None:
        if self.sparsity is None and self.clusters is None:
            raise OptionError("give sparsity, clusters, or both")
        known = self.sparsity in (None, TWO_OF_FOUR)
        if not known and not (isinstance(self.sparsity, float) and 0 < self.sparsity < 1):
            raise OptionError(f"sparsity must be above 0 and below 1, or {TWO_OF_FOUR}, received {self.sparsity}")
        if self.clusters is not None and not MIN_CLUSTERS <= self.clusters <= MAX_CLUSTERS:
            raise OptionError(f"clusters must be {MIN_CLUSTERS} to {MAX_CLUSTERS}, received {self.clusters}")


def sparsify(model: Model, sparsity: Union[float, str], steps: int, train: Train) -> Model:
    """A copy in which the share `sparsity` of the weights of every convolution and dense layer is zero.

    The weights that are smallest relative to their output channel become zero; relative, because a folded BatchNorm
    makes whole channels large or small. Depthwise kernels stay dense: they are few, and each weight matters. Sparsity
    rises along a cubic polynomial (Zhu and Gupta 2017, arXiv 1710.01878) while `train` trains for `steps` steps.

    Raises:
        MissingExtraError: tensorflow-model-optimization is not installed.
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

    The scale is the largest magnitude in the channel, and the values are multiples of scale/127. int8 quantization
    uses the same scale and steps, so the compiled weights have as few values, the same ones in every channel. A dense
    layer has a single scale. Depthwise kernels stay unchanged, and with `keep_zeros` zeros do too.

    Raises:
        MissingExtraError: tensorflow-model-optimization is not installed.
    """
    keras = _tfmot().clustering.keras
    scales = _scales_of(model, _largest)
    wrapped = _wrapped(
        _relative(model, scales),
        lambda layer: keras.cluster_weights(
            layer,
            number_of_clusters=clusters if keep_zeros else clusters - 1,  # zero counts as one: dead channels need it
            cluster_centroids_init=keras.CentroidInitialization.LINEAR,
            preserve_sparsity=keep_zeros,
        ),
    )
    train(wrapped, [_bound_centroids(wrapped)])
    clustered = _unwrapped(model, keras.strip_clustering(wrapped))
    for layer in filter(_is_compressible, clustered.layers):
        kernel, *bias = layer.get_weights()
        if layer.name in scales:
            scale, relative = scales[layer.name], _restore_peaks(kernel, model.get_layer(layer.name).kernel.numpy())
        else:
            scale = np.abs(kernel).max()
            relative = kernel / scale
        layer.set_weights([np.rint(relative * _INT8_STEPS) / _INT8_STEPS * scale, *bias])
    return clustered


def zero_share(model: Model) -> float:
    """The share of zeros in the weights of convolutions and dense layers, 0..1."""
    kernels = [layer.kernel.numpy() for layer in model.layers if _is_compressible(layer)]
    return float(sum(np.sum(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels))


def _tfmot() -> Any:
    tf_keras()
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise MissingExtraError("tensorflow-model-optimization", "host", "making weights sparse") from error
    return tensorflow_model_optimization


def _wrapped(model: Model, wrap: Callable[[Any], Any]) -> Model:
    """A copy of the model, without shared weights, in which convolutions and dense layers are wrapped."""
    keras = tf_keras()
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return keras.models.clone_model(
        copy, clone_function=lambda layer: wrap(layer) if _is_compressible(layer) else layer
    )


def _relative(model: Model, scales: Mapping[str, np.ndarray]) -> Model:
    """The same function with kernels divided by scales, which the new layers multiply by again."""

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
    """The class of a Conv2D whose kernel is multiplied by a scale for each output channel."""
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


def _bound_centroids(wrapped: Model) -> Any:
    """A callback that keeps the outermost centroids of a convolution at -1 and 1, and all others in between.

    So the largest magnitude of a channel remains its scale, for either sign.
    """
    layers = [layer for layer in wrapped.layers if isinstance(getattr(layer, "layer", None), _scaled_convolution())]

    def bound() -> None:
        for layer in layers:
            centroids = layer.cluster_centroids["kernel"]
            centroids.assign([-1.0, *np.clip(centroids.numpy()[1:-1], -1.0, 1.0), 1.0])

    callback = tf_keras().callbacks.LambdaCallback
    return callback(on_train_begin=lambda logs: bound(), on_batch_end=lambda batch, logs: bound())


def _restore_peaks(kernel: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Relative weights whose magnitude reaches 1 in each channel, even if training moved the largest weight."""
    flat, peaks = kernel.reshape(-1, kernel.shape[-1]).copy(), original.reshape(-1, kernel.shape[-1])
    for channel, at in enumerate(np.abs(peaks).argmax(axis=0)):
        if peaks[at, channel] and np.abs(flat[:, channel]).max() < 1:
            flat[at, channel] = np.sign(peaks[at, channel])
    return flat.reshape(kernel.shape)


def _scales_of(model: Model, magnitude: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """The magnitude of each convolution's output channels, (channels,); 1 for a channel of zeros."""
    magnitudes = {layer.name: magnitude(layer.kernel.numpy()) for layer in model.layers if _is_convolution(layer)}
    return {name: np.where(found > 0, found, 1.0) for name, found in magnitudes.items()}


def _largest(kernel: np.ndarray) -> np.ndarray:
    largest: np.ndarray = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    return largest


def _root_mean_square(kernel: np.ndarray) -> np.ndarray:
    root: np.ndarray = np.sqrt(np.mean(np.square(kernel), axis=tuple(range(kernel.ndim - 1))))
    return root


def _unwrapped(model: Model, stripped: Model) -> Model:
    """A copy of `model` with the weights of `stripped`."""
    copy = tf_keras().models.clone_model(model)
    copy.set_weights(stripped.get_weights())
    return copy


def _is_compressible(layer: Any) -> bool:
    return _is_convolution(layer) or isinstance(layer, tf_keras().layers.Dense)


def _is_convolution(layer: Any) -> bool:
    """Whether the layer is a convolution that combines all channels, which a depthwise one does not."""
    layers = tf_keras().layers
    return isinstance(layer, layers.Conv2D) and not isinstance(layer, layers.Conv2DTranspose)
