"""Corrects each layer's bias for the shift of its mean that int8 quantization causes.

Rounding weights and clipping activations shift the mean of a channel, and every later layer adds its own shift (Nagel
et al. 2019, arXiv 1906.04721, section 4.2). The means are measured on frames, as in appendix D of the paper, so no
distribution of the activations is assumed. Layers are corrected one after the other in order of execution: corrected
all at once, each would also remove the shift that it received from the layers before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgetl.conversion.quantization.layerwise_error import Layer, Probe, common_layers
from edgetl.conversion.tflite import schema
from edgetl.conversion.tflite.artifact import Artifact
from edgetl.errors import ConversionError

_BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_INT32 = np.iinfo(np.int32)


def correct_bias(artifact: Artifact, reference: Artifact, frames: Sequence[np.ndarray]) -> Artifact:
    """An int8 artifact whose channels have the same means as in `reference`, its float32 twin.

    `frames` are uint8 (h, w, 3). Only biases change: operators, sizes and scales stay.

    Raises:
        ConversionError: the artifact is not int8, or the two do not come from the same network.
    """
    if artifact.quantize != "int8":
        raise ConversionError(f"bias correction needs an int8 model, received {artifact.quantize}")
    corrected = _BiasCorrection(artifact.model, reference.model)
    for layer, expected in corrected.expected_means(frames):
        corrected.correct(layer, expected, frames)
    return replace(artifact, model=corrected.model)


class _BiasCorrection:
    """An int8 model whose biases are corrected step by step, and its float twin."""

    def __init__(self, model: bytes, reference: bytes) -> None:
        pairs = common_layers(model, reference)
        self._pairs = [pair for pair in pairs if pair[0].operator in _BIASED and len(pair[0].inputs) == 3]
        self._parsed = schema.read_model(model)
        self._reference = reference

    @property
    def model(self) -> bytes:
        """The .tflite file with the corrections so far."""
        return schema.write_model(self._parsed)

    def expected_means(self, frames: Sequence[np.ndarray]) -> list[tuple[Layer, np.ndarray]]:
        """The layers with a bias, in order of execution, each with its channel means (channels,) in the float model."""
        means = _means(Probe(self._reference), [layer.output for _, layer in self._pairs], frames)
        return [(layer, mean) for (layer, _), mean in zip(self._pairs, means)]

    def correct(self, layer: Layer, expected: np.ndarray, frames: Sequence[np.ndarray]) -> None:
        """Shift one layer's bias by the error of its means; the layers before it must be corrected already."""
        [found] = _means(Probe(self.model), [layer.output], frames)
        self._shift(layer.inputs[2], expected - found)

    def _shift(self, bias: int, amounts: np.ndarray) -> None:
        tensor = self._parsed.subgraphs[0].tensors[bias]
        if tensor.quantization is None or tensor.quantization.scale is None:
            return  # a layer that was kept in float
        buffer = self._parsed.buffers[tensor.buffer]
        values = np.frombuffer(bytes(bytearray(buffer.data)), "<i4") + np.rint(amounts / tensor.quantization.scale)
        buffer.data = np.frombuffer(np.clip(values, _INT32.min, _INT32.max).astype("<i4").tobytes(), np.uint8)


def _means(probe: Probe, tensors: Sequence[int], frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The channel means of the given tensors over all positions of all frames."""
    values = [[value.mean(axis=0) for value in probe.run(frame, tensors)] for frame in frames]
    return [np.mean(one, axis=0) for one in zip(*values)]
