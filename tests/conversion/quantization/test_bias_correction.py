"""Bias correction removes the shift of means that quantization causes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgetl.backbones import build, get_backbone
from edgetl.conversion import ConversionOptions, convert, recipe_frames
from edgetl.conversion.quantization import correct_bias
from edgetl.conversion.tflite import schema
from edgetl.errors import ConversionError
from edgetl.runtime.inference.embedder import Embedder
from tests.conversion.bottlenecks import build_bottlenecks, embed, plant
from tests.conversion.conftest import NORMALIZATION, PREPROCESS


@pytest.fixture(scope="module")
def artifacts(frames):
    """The planted model as int8, whose means are far off, and as float32."""
    model = plant(build_bottlenecks())
    return [
        convert(model, NORMALIZATION, PREPROCESS, ConversionOptions(quantize), frames)
        for quantize in ("int8", "float32")
    ]


def mean_error(artifact, frames):
    embedder = Embedder(artifact.model, artifact.preprocess)
    raw = np.stack([embedder.embed(frame) for frame in frames]).astype(np.float64)
    values = (raw - artifact.embedding["zero_point"]) * artifact.embedding["scale"]
    return np.abs((values - embed(build_bottlenecks(), frames)).mean(axis=0)).mean()


def test_the_means_move_towards_those_of_the_float_model(artifacts, frames):
    int8, reference = artifacts
    assert mean_error(correct_bias(int8, reference, frames), frames) < 0.5 * mean_error(int8, frames)


def test_only_biases_change(artifacts, frames):
    int8, reference = artifacts
    corrected = correct_bias(int8, reference, frames[:4])
    assert replace(corrected, model=int8.model) == int8
    before, after = (schema.read_model(model) for model in (int8.model, corrected.model))
    changed = [
        tensor
        for tensor, other in zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors)
        if not np.array_equal(before.buffers[tensor.buffer].data, after.buffers[other.buffer].data)
    ]
    assert changed
    assert {schema.tensor_type_name(tensor) for tensor in changed} == {"int32"}


def test_the_same_frames_give_the_same_bytes(artifacts, frames):
    assert correct_bias(*artifacts, frames[:2]) == correct_bias(*artifacts, frames[:2])


def test_only_int8_has_biases_to_correct(artifacts, frames):
    reference = artifacts[1]
    with pytest.raises(ConversionError, match="received float32"):
        correct_bias(reference, reference, frames)


@pytest.mark.slow
def test_the_embeddings_of_a_pretrained_backbone_move_towards_the_float_ones(shared):
    spec, size = get_backbone("mobilenet-v2-0.35"), 96
    weights = shared("weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5")
    images, preprocess = recipe_frames(size, size, 32), spec.preprocess(size)
    model = build(spec, size, weights)
    int8, reference = (
        convert(model, spec.normalization, preprocess, ConversionOptions(quantize), images)
        for quantize in ("int8", "float32")
    )
    before, after = (
        similarity(artifact, reference, images[16:]) for artifact in (int8, correct_bias(int8, reference, images[:16]))
    )
    assert before < 0.98
    assert after > 0.985


def similarity(artifact, reference, frames):
    """The mean cosine between the embeddings of two artifacts."""
    directions = []
    for one in (artifact, reference):
        embedder = Embedder(one.model, one.preprocess)
        rows = np.stack([embedder.embed(frame).astype(np.float64) - embedder.zero_point for frame in frames])
        directions.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return float((directions[0] * directions[1]).sum(axis=1).mean())
