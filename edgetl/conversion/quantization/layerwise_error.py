"""Compares a quantized model with its float twin layer by layer, and finds the layers that lose the signal.

The interpreter runs both files on the same frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetl.conversion.tflite.graph import read_single_graph
from edgetl.errors import ConversionError, MissingExtraError

FRAMES = 8
"""Enough frames to rank the layers as hundreds would: each frame has thousands of positions."""

_SILENT = 1e-10
"""A channel with less than this share of the strongest channel's power carries no signal to lose."""

_CONVERSIONS = frozenset(("CAST", "DEQUANTIZE", "QUANTIZE"))
"""Operators that only change the number format."""

_WEIGHTED = frozenset(("Conv2D", "depthwise", "MatMul"))
"""TensorFlow's names of the operations that have weights."""

_ENDINGS = ("_bn", "_relu6", "_relu", "_hard_swish")
"""Name endings of layers that the converter fuses with the layer before."""

_OUTPUT = "embedding"
"""The name of the layer with the model's output, whose own name the converter drops."""


@dataclass(frozen=True)
class LayerError:
    """The error of a layer's output caused by quantization.

    `layer` is its name in the network, `tensor` the name of its output in the .tflite file. `noise` is the power of the
    error as a share of the power of the signal, averaged over channels; a channel counts at most 1, when nothing of its
    signal is left. `added` is `noise` minus that of the layer's noisiest input; it may be negative.
    """

    layer: str
    operator: str
    tensor: str
    noise: float
    added: float

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio in decibels; 20 to 40 is normal for int8."""
        return -10.0 * math.log10(max(self.noise, 1e-12))


def compare_layers(quantized: bytes, reference: bytes, frames: Sequence[np.ndarray]) -> tuple[LayerError, ...]:
    """The errors of all layers that the two .tflite files have in common, in order of execution.

    Both take raw pixels and come from the same network. `frames` are uint8 (h, w, 3).

    Raises:
        ConversionError: they have no layer in common.
        MissingExtraError: ai-edge-litert is not installed.
    """
    pairs = common_layers(quantized, reference)
    probes = Probe(quantized), Probe(reference)
    powers = [_Powers() for _ in pairs]
    for frame in frames:
        found, expected = (probe.run(frame, [pair[side].output for pair in pairs]) for side, probe in enumerate(probes))
        for power, values, reference_values in zip(powers, found, expected):
            power.add(values, reference_values)
    return tuple(_errors([layer for layer, _ in pairs], [power.noise() for power in powers]))


def guilty_layers(errors: Sequence[LayerError], count: int) -> tuple[LayerError, ...]:
    """The layers that add the most noise, at most `count`, worst first."""
    ranked = sorted(errors, key=lambda error: -error.added)
    return tuple(error for error in ranked[:count] if error.added > 0)


def tensors_around(model: bytes, errors: Sequence[LayerError]) -> tuple[str, ...]:
    """Names of the outputs of the given layers and of the layers that read them.

    With all of them in float, nothing in between is rounded.
    """
    layers = list(_layers(model))
    guilty = {layer.output for layer in layers if layer.tensor in {error.tensor for error in errors}}
    return tuple(layer.tensor for layer in layers if layer.output in guilty or guilty & set(layer.inputs))


@dataclass(frozen=True)
class Layer:
    """One operator of a .tflite file.

    `name` is its layer in the network; `inputs` and `output` are tensor indices; `tensor` and `shape` are those of the
    output.
    """

    name: str
    operator: str
    inputs: tuple[int, ...]
    output: int
    tensor: str
    shape: tuple[int, ...]


def common_layers(model: bytes, reference: bytes) -> list[tuple[Layer, Layer]]:
    """The layers of `model` that `reference` has too, each with its counterpart, in order of execution.

    Raises:
        ConversionError: there are none.
    """
    known = {(layer.name, layer.operator, layer.shape): layer for layer in _layers(reference)}
    found = ((layer, known.get((layer.name, layer.operator, layer.shape))) for layer in _layers(model))
    pairs = [(layer, other) for layer, other in found if other is not None]
    if not pairs:
        raise ConversionError("the two models have no layer in common; convert both from the same network")
    return pairs


class Probe:
    """A .tflite model whose inner tensors can be read. It is slow: the fast kernels are disabled."""

    def __init__(self, model: bytes) -> None:
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", "tflite", "comparing models layer by layer") from error
        self._interpreter = litert.Interpreter(
            model_content=model,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._tensors = {entry["index"]: entry for entry in self._interpreter.get_tensor_details()}

    def run(self, image: np.ndarray, tensors: Sequence[int]) -> list[np.ndarray]:
        """Run the model on one input (h, w, 3) of its own type.

        Returns the tensors with the given indices, each float64 (positions, channels).
        """
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], image[np.newaxis])
        self._interpreter.invoke()
        return [self._read(self._tensors[index]) for index in tensors]

    def _read(self, tensor: dict[str, Any]) -> np.ndarray:
        values = self._interpreter.get_tensor(tensor["index"]).astype(np.float64)
        scale, zero_point = tensor["quantization"]
        if scale:
            values = (values - zero_point) * scale
        flat: np.ndarray = values.reshape(-1, values.shape[-1])
        return flat


class _Powers:
    """Accumulates the power of signal and error for each channel over all positions of all frames."""

    def __init__(self) -> None:
        self._signal: Any = 0.0  # (channels,) float64 after the first frame
        self._error: Any = 0.0

    def add(self, values: np.ndarray, expected: np.ndarray) -> None:
        self._signal = self._signal + np.square(expected).sum(axis=0)
        self._error = self._error + np.square(values - expected).sum(axis=0)

    def noise(self) -> float:
        active = self._signal > _SILENT * max(float(np.max(self._signal)), 1e-30)
        if not active.any():
            return 0.0
        return float(np.minimum(self._error[active] / self._signal[active], 1.0).mean())


def _layers(model: bytes) -> Iterator[Layer]:
    graph = read_single_graph(model)
    for operator in graph.operators:
        output = graph.output(operator)
        if operator.name not in _CONVERSIONS and output is not None:
            name = _OUTPUT if output.index in graph.outputs else _layer_name(output.name)
            yield Layer(name, operator.name, operator.inputs, output.index, output.name, output.shape)


def _layer_name(tensor: str) -> str:
    """The layer with weights among those that the converter fused into one operator.

    The tensor has the names of all of them: "net/stem_relu6/Relu6;net/stem/BiasAdd;net/stem/Conv2D;..."
    """
    paths = [path.split("/") for path in tensor.split(";")]
    weighted = [path for path in paths if path[-1] in _WEIGHTED]
    path = (weighted or paths)[0]
    name = path[-2] if len(path) > 1 else path[0]
    return next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)


def _errors(layers: Sequence[Layer], noises: Sequence[float]) -> Iterator[LayerError]:
    noise_of = {layer.output: noise for layer, noise in zip(layers, noises)}
    for layer in layers:
        received = max((noise_of.get(index, 0.0) for index in layer.inputs), default=0.0)
        own = noise_of[layer.output]
        yield LayerError(layer.name, layer.operator, layer.tensor, own, own - received)
