"""Models with int8 input are made to take raw pixels, before and after the Edge TPU compiler alike."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetl.conversion import find_backbone_source
from edgetl.conversion.edgetpu import analyse, verify
from edgetl.conversion.tflite.pixel_input import take_raw_pixels
from edgetl.errors import ConversionError
from edgetl.runtime.inference.engine import Engine
from tests.conversion.edgetpu.graphs import GraphBuilder, options, pack, unpack


def pooling(kind: str, zero_point: int) -> bytes:
    """The mean colour of 8 x 8 pixels."""
    builder = GraphBuilder()
    frame, colour = builder.tensor((1, 8, 8, 3), kind), builder.tensor((1, 1, 1, 3), kind)
    for index in (frame, colour):
        builder.graph.tensors[index].quantization.zeroPoint = [zero_point]
    pool = options("Pool2DOptions", padding=1, filterHeight=8, filterWidth=8, strideW=8, strideH=8)
    builder.operator("AVERAGE_POOL_2D", [frame], [colour], pool, version=2)
    return builder.build([frame], [colour])


def test_the_embedding_matches_that_of_the_uint8_model():
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    plain, moved = Engine(pooling("UINT8", 0)), Engine(take_raw_pixels(pooling("INT8", -128)))
    np.testing.assert_array_equal(moved.invoke(frame).astype(int) + 128, plain.invoke(frame))


def test_a_model_for_raw_pixels_is_not_changed():
    model = pooling("UINT8", 0)
    assert take_raw_pixels(model) is model


def test_the_added_operator_runs_on_the_edge_tpu_too():
    assert [op.placed for op in analyse(take_raw_pixels(pooling("INT8", -128))).ops] == ["tpu", "tpu"]


def for_int8_pixels(content: bytes) -> bytes:
    model = unpack(content)
    frame = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    frame.type = schema.TensorType.INT8
    frame.quantization.zeroPoint[0] -= 128
    return pack(model)


def test_a_matching_pair_still_matches(pair, tmp_path):
    one = pair("mobilenet_v1_1.0_224_quant_embedding_extractor")
    source, compiled = tmp_path / "mine.tflite", tmp_path / "mine_edgetpu.tflite"
    source.write_bytes(for_int8_pixels(one.source))
    compiled.write_bytes(for_int8_pixels(one.compiled))
    backbone = find_backbone_source(str(source), edgetpu_backbone=compiled)
    assert backbone.edgetpu_model != compiled.read_bytes()
    assert verify(backbone.compile("int8").model, backbone.edgetpu_model).match


def test_a_damaged_file_is_refused():
    with pytest.raises(ConversionError):
        take_raw_pixels(pooling("INT8", -128)[:200])
