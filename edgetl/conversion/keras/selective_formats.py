"""Quantizes in two passes, so that ranges can be clipped and layers kept in float in between.

The converter's calibration records the smallest and the largest value of each tensor in the float model, which it then
quantizes. A single photo with a lamp in it can decide such a range; a quantile depends on all photos.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetl.conversion.keras.quiet import quiet_tensorflow
from edgetl.conversion.quantization.layerwise_error import Probe
from edgetl.conversion.tflite import schema

VALUES_PER_FRAME = 4096
"""How many evenly spaced values of each tensor and frame a quantile is computed from."""


def quantize(calibrated: bytes, float_tensors: Sequence[str]) -> bytes:
    """A calibrated float model as int8, uint8 in and int8 out; layers that output `float_tensors` stay in float32."""
    with quiet_tensorflow():
        import tensorflow as tf
        from tensorflow.lite.python.convert import mlir_quantize

        return bytes(
            mlir_quantize(
                calibrated,
                input_data_type=tf.uint8,
                output_data_type=tf.int8,
                denylisted_nodes=list(float_tensors) or None,
            )
        )


def clip_ranges(calibrated: bytes, inputs: Sequence[np.ndarray], quantile: float) -> bytes:
    """The calibrated model with the range of each inner tensor clipped to its quantiles 1 - `quantile` to `quantile`.

    `inputs` are normalised images, float32 (1, h, w, 3) each. The range of the model's input is kept, because it is the
    normalisation. Values outside a range saturate; in exchange the others are represented in finer steps.
    """
    parsed = schema.read_model(calibrated)
    graph = parsed.subgraphs[0]
    inputs_kept = set(graph.inputs)
    ranged = {
        index: tensor
        for index, tensor in enumerate(graph.tensors)
        if index not in inputs_kept and tensor.quantization is not None and tensor.quantization.max is not None
    }
    samples: dict[int, list[np.ndarray]] = {index: [] for index in ranged}
    probe = Probe(calibrated)
    for image in inputs:
        for index, values in zip(ranged, probe.run(image[0], list(ranged))):
            samples[index].append(_sample(values))
    for index, tensor in ranged.items():
        low, high = np.quantile(np.concatenate(samples[index]), (1 - quantile, quantile))
        tensor.quantization.min = np.array([min(low, 0.0)], np.float32)
        tensor.quantization.max = np.array([max(high, 0.0)], np.float32)
    return schema.write_model(parsed)


def _sample(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    return flat[:: max(1, len(flat) // VALUES_PER_FRAME)]
