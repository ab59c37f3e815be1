"""A compiled model is refused if anything in it differs from its source."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetl.conversion.edgetpu import Limits, verify
from tests.conversion.edgetpu.graphs import pack, unpack

EXTRACTOR = "mobilenet_v1_1.0_224_quant_embedding_extractor"
SEGMENTER = "deeplabv3_mnv2_dm05_pascal_quant"
PER_CHANNEL = "posenet_mobilenet_v1_075_353_481_16_quant_decoder"


def weights_of(model, index: int):
    graph = model.subgraphs[0]
    return model.buffers[graph.tensors[graph.operators[index].inputs[1]].buffer]


def with_one_weight_changed(source: bytes, index: int, place: int) -> bytes:
    model = unpack(source)
    buffer = weights_of(model, index)
    buffer.data = buffer.data.copy()
    buffer.data[place] ^= 1
    return pack(model)


@pytest.mark.parametrize("operator", [0, 1, 2, 13, 25, 26])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_one_changed_weight_is_detected(pair, operator, part):
    one = pair(EXTRACTOR)
    place = int(part * len(weights_of(unpack(one.source), operator).data))
    reasons = verify(with_one_weight_changed(one.source, operator, place), one.compiled).reasons
    assert len(reasons) == 1
    assert f"weights of operator {operator} " in reasons[0]


@pytest.mark.parametrize("operator", [2, 3, 4, 27, 33])
def test_one_changed_weight_is_detected_with_per_channel_scales(pair, operator):
    one = pair(PER_CHANNEL)
    assert not verify(with_one_weight_changed(one.source, operator, 5), one.compiled).match


def test_one_changed_weight_of_a_dense_layer_is_detected(pair):
    one = pair("keras_lstm_mnist_ptq")
    assert not verify(with_one_weight_changed(one.source, 3, 700), one.compiled).match


def test_rewriting_the_source_without_changing_it_is_accepted(pair):
    one = pair(EXTRACTOR)
    assert verify(pack(unpack(one.source)), one.compiled).match


def refused(pair, name: str, change) -> str:
    """The first reason after a change to the compiled model."""
    one = pair(name)
    model = unpack(one.compiled)
    change(model)
    verification = verify(one.source, pack(model))
    assert not verification.match
    return verification.reasons[0]


def test_another_output_scale_is_detected(pair):
    def change(model):
        model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].quantization.scale[0] *= 2

    assert "quantization" in refused(pair, EXTRACTOR, change)


def test_another_input_type_is_detected(pair):
    def change(model):
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type = schema.TensorType.INT8

    assert "type UINT8 in the source, INT8" in refused(pair, EXTRACTOR, change)


def test_another_input_name_is_detected(pair):
    def change(model):
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].name = "other"

    assert "the inputs differ" in refused(pair, EXTRACTOR, change)


def test_a_missing_output_is_detected(pair):
    def change(model):
        model.subgraphs[0].outputs = model.subgraphs[0].outputs[:-1]

    assert "4 outputs" in refused(pair, PER_CHANNEL, change)


def test_a_changed_constant_on_the_cpu_side_is_detected(pair):
    def change(model):
        buffer = weights_of(model, 4)
        buffer.data = buffer.data.copy()
        buffer.data[0] ^= 1

    assert "input 1 of operator 67 CONV_2D" in refused(pair, SEGMENTER, change)


def test_a_changed_option_on_the_cpu_side_is_detected(pair):
    def change(model):
        model.subgraphs[0].operators[4].builtinOptions.fusedActivationFunction = 0

    assert "operator 67 CONV_2D" in refused(pair, SEGMENTER, change)


def test_a_changed_custom_option_on_the_cpu_side_is_detected(pair):
    def change(model):
        options = model.subgraphs[0].operators[1].customOptions = model.subgraphs[0].operators[1].customOptions.copy()
        options[20] ^= 1

    assert "operator 37" in refused(pair, PER_CHANNEL, change)


def test_a_missing_operator_is_detected(pair):
    def change(model):
        del model.subgraphs[0].operators[2]

    assert refused(pair, SEGMENTER, change) == "operator 65 QUANTIZE of the source is not in the compiled model"


def test_an_operator_that_nothing_depends_on_is_ignored(pair):
    one = pair(SEGMENTER)
    model = unpack(one.source)
    graph = model.subgraphs[0]
    add, extra = graph.operators[9], unpack(one.source).subgraphs[0].tensors[77]
    graph.operators.append(schema.OperatorT(add.opcodeIndex, add.inputs, [len(graph.tensors)]))
    graph.tensors.append(extra)
    extra.name = "extra"
    assert verify(pack(model), one.compiled).match


def test_a_package_for_a_newer_runtime_than_the_boards_is_refused(pair):
    one = pair("split_concat")
    verification = verify(one.source, one.compiled, Limits(runtime_version=12))
    assert verification.reasons == ("the package needs Edge TPU runtime 13, the board has 12",)


def test_many_differences_are_summarised(pair):
    one, other = pair("mobilenet_v2_1.0_224_quant"), pair(EXTRACTOR)
    assert len(verify(one.source, other.compiled).reasons) <= 11
