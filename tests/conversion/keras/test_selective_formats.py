"""Ranges are clipped, and layers left in float, between calibration and quantization."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.conversion import ConversionOptions, check, convert
from edgetl.conversion.quantization import compare_layers, guilty_layers, tensors_around
from edgetl.conversion.tflite import schema
from edgetl.errors import OptionError
from edgetl.runtime.inference.embedder import Embedder
from edgetl.targets import load_target
from tests.conversion.bottlenecks import build_bottlenecks, embed, plant
from tests.conversion.conftest import NORMALIZATION, PREPROCESS


def compiled(model, frames, **options):
    return convert(model, NORMALIZATION, PREPROCESS, ConversionOptions(**options), frames)


def error(artifact, frames):
    embedder = Embedder(artifact.model, artifact.preprocess)
    raw = np.stack([embedder.embed(frame) for frame in frames]).astype(np.float64)
    values = (raw - artifact.embedding["zero_point"]) * artifact.embedding["scale"]
    return np.abs(values - embed(build_bottlenecks(), frames)).mean()


def scales(artifact):
    graph = schema.read_model(artifact.model).subgraphs[0]
    found = {schema.text(tensor.name): schema.tensor_scale(tensor) for tensor in graph.tensors}
    return {name: scale[0] for name, scale in found.items() if scale}


def test_a_lower_quantile_gives_finer_steps_and_leaves_the_input_alone(frames):
    plain, clipped = (compiled(build_bottlenecks(), frames, range_quantile=quantile) for quantile in (None, 0.95))
    before, after = scales(plain), scales(clipped)
    assert set(before) == set(after)
    assert np.mean([after[name] < 0.9 * before[name] for name in before]) > 0.2
    name = schema.text(schema.read_model(plain.model).subgraphs[0].tensors[0].name)
    assert after[name] == pytest.approx(before[name])


def test_a_quantile_near_one_changes_little(frames):
    model = build_bottlenecks()
    wide = compiled(model, frames, range_quantile=1 - 1e-9)
    assert error(wide, frames) < 1.5 * error(compiled(model, frames), frames) + 1e-3


def test_guilty_layers_in_float_restore_the_signal(frames):
    model = plant(build_bottlenecks())
    int8, reference = compiled(model, frames), compiled(model, frames, quantize="float32")
    guilty = guilty_layers(compare_layers(int8.model, reference.model, frames), 4)
    repaired = compiled(model, frames, float_tensors=tensors_around(int8.model, guilty))
    assert error(repaired, frames) < 0.1 * error(int8, frames)
    assert repaired.embedding["dtype"] == "int8"
    assert {"QUANTIZE", "DEQUANTIZE"} <= {operator.name for operator in repaired.operators}
    check(repaired.model, load_target("rpi4"))


def test_int16_activations_tolerate_planted_channels(frames):
    model = plant(build_bottlenecks())
    wide = compiled(model, frames, quantize="int16x8")
    assert error(wide, frames) < 0.3 * error(compiled(model, frames), frames)
    check(wide.model, load_target("rpi4"))


def test_a_quantile_out_of_range_is_refused():
    with pytest.raises(OptionError, match="range_quantile"):
        ConversionOptions(range_quantile=1.0)
