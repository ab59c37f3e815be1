"""Bias correction: takes out of each layer's bias what quantization shifts its mean by; `pipeline` repairs with it.

Rounding weights and clipping activations move the mean of a channel, and every later layer adds its own share (Nagel
et al. 2019, arXiv 1906.04721, section 4.2). The means are measured on frames, as in its appendix D, so nothing is
assumed about how activations are distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgetl.conversion import flatbuffer
from edgetl.conversion.artifact import Artifact
from edgetl.conversion.layerwise import Layer, Probe, common_layers
from edgetl.errors import ConversionError

PASSES = 8
"""Parts in which the layers are corrected, one after the other: within a part, a shift that a layer received from
another one of the part is taken out twice; in single layers it would be exact, and take ten times as long."""

_BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_INT32 = np.iinfo(np.int32)


def correct_bias(artifact: Artifact, reference: Artifact, frames: Sequence[np.ndarray]) -> Artifact:
    """An int8 artifact with the mean of each channel where `reference`, its float32 twin, has it.

    `frames` are uint8 (h, w, 3). Only biases change: the same operators, sizes and scales. Raises ConversionError
    where the artifact is not int8, or the two do not come from the same network.
    """
    if artifact.quantize != "int8":
        raise ConversionError(f"bias correction is for int8 models, received {artifact.quantize}")
    corrected = _Corrected(artifact.model, reference.model)
    for part in np.array_split(np.arange(len(corrected.layers)), PASSES):
        corrected.correct([corrected.layers[index] for index in part], frames)
    return replace(artifact, model=corrected.model)


class _Corrected:
    """A model under correction, and the float one to follow."""

    def __init__(self, model: bytes, reference: bytes) -> None:
        pairs = common_layers(model, reference)
        self.layers = [pair for pair in pairs if pair[0].operator in _BIASED and len(pair[0].inputs) == 3]
        self._parsed = flatbuffer.read_model(model)
        self._expected = Probe(reference)

    @property
    def model(self) -> bytes:
        """The .tflite file as corrected so far."""
        return flatbuffer.write_model(self._parsed)

    def correct(self, layers: Sequence[tuple[Layer, Layer]], frames: Sequence[np.ndarray]) -> None:
        """Shift the biases of some layers by what their outputs are off on average."""
        found = Probe(self.model)
        shifts: list[Any] = [0.0] * len(layers)
        for frame in frames:
            values = found.run(frame, [layer.output for layer, _ in layers])
            expected = self._expected.run(frame, [layer.output for _, layer in layers])
            for index, (value, wanted) in enumerate(zip(values, expected)):
                shifts[index] = shifts[index] + (wanted - value).mean(axis=0) / len(frames)
        for (layer, _), shift in zip(layers, shifts):
            self._shift(layer.inputs[2], shift)

    def _shift(self, bias: int, amounts: np.ndarray) -> None:
        tensor = self._parsed.subgraphs[0].tensors[bias]
        if tensor.quantization is None or tensor.quantization.scale is None:
            return  # of a layer that was kept in float
        buffer = self._parsed.buffers[tensor.buffer]
        values = np.frombuffer(bytes(bytearray(buffer.data)), "<i4") + np.rint(amounts / tensor.quantization.scale)
        buffer.data = np.frombuffer(np.clip(values, _INT32.min, _INT32.max).astype("<i4").tobytes(), np.uint8)
