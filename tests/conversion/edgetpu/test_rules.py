"""For each rule: a model that satisfies it maps; a model that violates only that rule does not, for that reason."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetl.conversion.edgetpu import Limits, analyse
from edgetl.conversion.edgetpu.rules import load_rules
from tests.conversion.edgetpu.cases import BROKEN, MAPPED, bias, broken_model, image, mapped_model, numbers, weights
from tests.conversion.edgetpu.graphs import GraphBuilder, one_operator, options

RULES = load_rules().table


def test_every_operator_of_the_rules_has_a_case_here():
    assert set(MAPPED) == set(RULES["operators"])


def test_every_condition_of_the_rules_is_violated_here():
    written = {(name, rule["id"]) for name, entry in RULES["operators"].items() for rule in entry.get("conditions", ())}
    written |= {("ADD", rule["id"]) for rule in RULES["every"]}
    assert set(BROKEN) == written


def test_every_rule_names_a_known_status_and_its_sources():
    conditions = [rule for entry in RULES["operators"].values() for rule in entry.get("conditions", ())]
    for rule in (*conditions, *RULES["every"]):
        assert rule["status"] in RULES["statuses"]
        assert rule["why"]
        assert rule["fix"]
    entries = [
        *RULES["operators"].values(),
        *RULES["versions"].values(),
        *RULES["mapped_versions"].values(),
        *RULES["unsupported"].values(),
        *conditions,
    ]
    for entry in entries:
        assert entry["source"]
        for source in entry["source"]:
            assert source in {*RULES["sources"], "estimate"} or source.startswith("github.com/")


@pytest.mark.parametrize("name", sorted(MAPPED))
def test_an_operator_within_its_limits_goes_to_the_tpu(name):
    analysis = analyse(mapped_model(name))
    assert analysis.refused is None
    assert [(op.op, op.placed, op.reason) for op in analysis.ops] == [(name, "tpu", "Mapped to Edge TPU")]
    assert analysis.min_runtime_version >= RULES["operators"][name]["runtime"]


@pytest.mark.parametrize(("name", "rule"), sorted(BROKEN))
def test_violating_one_condition_leaves_the_operator_on_the_cpu_for_that_reason(name, rule):
    (op,) = analyse(broken_model(name, rule)).ops
    conditions = (*RULES["every"], *RULES["operators"][name].get("conditions", ()))
    status = next(condition["status"] for condition in conditions if condition["id"] == rule)
    assert (op.placed, op.rule) == ("cpu", rule)
    assert op.reason.startswith(RULES["statuses"][status])
    assert "{" not in op.reason
    assert op.fix


@pytest.mark.parametrize("name", sorted(RULES["versions"]))
def test_a_version_newer_than_the_compilers_refuses_the_whole_model(name):
    ceiling = RULES["versions"][name]["max"]
    first = numbers(1, 8, 8, 4) if 0 in RULES["shape_inputs"].get(name, ()) else image()
    case = MAPPED.get(name, {"inputs": [first], "outputs": [image()]})
    assert analyse(one_operator(name, **case, version=ceiling)).refused is None
    refused = analyse(one_operator(name, **case, version=ceiling + 1))
    assert refused.refused.startswith("Model could not be parsed")
    assert f"version {ceiling + 1}" in refused.refused
    assert [op.placed for op in refused.ops] == ["cpu"]


def test_an_operator_newer_than_the_compiler_refuses_the_whole_model():
    refused = analyse(one_operator("GELU", [image()], [image()])).refused
    assert refused.startswith("Op builtin_code out of range")
    assert "150" in refused


def test_a_float_model_is_refused_as_not_quantized():
    tensor = image(kind="FLOAT32")
    analysis = analyse(one_operator("ADD", [tensor, tensor], [tensor]))
    assert analysis.refused.startswith("Model not quantized")
    assert analysis.ops[0].placed == "cpu"


def test_a_float_model_that_takes_pixels_is_refused_too():
    builder = GraphBuilder()
    pixels = builder.tensor((1, 8), "UINT8", scales=())
    cast, result = builder.tensor((1, 8), "FLOAT32"), builder.tensor((1, 8), "FLOAT32")
    builder.operator("CAST", [pixels], [cast])
    builder.operator("RELU", [cast], [result])
    assert analyse(builder.build([pixels], [result])).refused.startswith("Model not quantized")


@pytest.mark.parametrize("name", sorted(set(RULES["shape_inputs"]) & set(MAPPED)))
def test_a_shape_that_is_computed_refuses_the_whole_model(name):
    case = MAPPED[name]
    for position in RULES["shape_inputs"][name]:
        inputs = list(case["inputs"])
        inputs[position] = {"shape": inputs[position]["shape"], "kind": "INT32"}
        refused = analyse(one_operator(name, **{**case, "inputs": inputs})).refused
        assert refused.startswith("Attempting to use a delegate that only supports static-sized tensors")


def test_activations_that_cannot_be_cut_to_fit_refuse_the_whole_model():
    huge = image(1, 2048, 2048, 8)
    analysis = analyse(one_operator("RELU", [huge], [huge]))
    assert analysis.refused.startswith("Compilation failed due to large activation tensors in model")
    assert analysis.activation_bytes == 2 * 2048 * 2048 * 8


def test_activations_above_the_chips_memory_give_a_warning():
    large = image(1, 512, 512, 8)
    analysis = analyse(one_operator("RELU", [large], [large]))
    assert analysis.refused is None
    assert any("3145728" in note for note in analysis.notes)


@pytest.mark.parametrize("name", sorted(set(RULES["unsupported"]) - {"GELU"}))
def test_an_unsupported_operator_stays_on_the_cpu_with_advice(name):
    (op,) = analyse(one_operator(name, [image()], [image()])).ops
    assert op.placed == "cpu"
    assert op.reason.startswith(("Operation not supported", "Operation is working on an unsupported data type"))
    assert op.fix == RULES["unsupported"][name]["fix"]


def test_a_custom_operator_has_its_own_name():
    (op,) = analyse(one_operator("CUSTOM", [image()], [image()], custom="Decoder")).ops
    assert (op.op, op.placed) == ("CUSTOM:Decoder", "cpu")


def test_a_kernel_of_one_row_may_be_dilated_in_one_direction():
    table = options("Conv2DOptions", dilationHFactor=4)
    assert (
        analyse(mapped_model("CONV_2D", inputs=[image(), weights(8, 3, 1, 4), bias(8)], table=table)).ops[0].placed
        == "tpu"
    )


def test_a_concatenation_may_pad_with_zeros():
    zeros = {"shape": (1, 8, 8, 4), "values": 0}
    assert analyse(mapped_model("CONCATENATION", inputs=[image(), zeros])).ops[0].placed == "tpu"


def test_a_mean_over_a_multiple_of_four_channels_maps():
    case = {"inputs": [image(), numbers(-1)], "outputs": [image(1, 8, 8)]}
    assert analyse(mapped_model("MEAN", **case)).ops[0].placed == "tpu"


def test_a_reshape_to_a_scalar_has_a_constant_shape_without_elements():
    builder = GraphBuilder()
    read, shape, written = builder.tensor((1, 1)), builder.tensor((0,), "INT32"), builder.tensor(())
    builder.operator("RESHAPE", [read, shape], [written])
    assert analyse(builder.build([read], [written])).ops[0].placed == "tpu"


def test_an_open_batch_size_only_gives_a_warning():
    tensor = image(signature=(-1, 8, 8, 4))
    analysis = analyse(one_operator("RELU", [tensor], [tensor]))
    assert analysis.ops[0].placed == "tpu"
    assert any("batch" in note for note in analysis.notes)


def test_the_option_fields_are_those_of_the_schema():
    table = options("StridedSliceOptions", beginMask=1, endMask=1, shrinkAxisMask=1)
    assert analyse(mapped_model("STRIDED_SLICE", table=table)).ops[0].placed == "tpu"
    assert schema.ActivationFunctionType.NONE == 0


def test_a_board_with_too_old_a_runtime_gets_a_warning():
    notes = analyse(mapped_model("TRANSPOSE"), Limits(runtime_version=13)).notes
    assert any("runtime 14" in note for note in notes)


def test_a_second_subgraph_gives_a_warning():
    builder = GraphBuilder()
    read, written = builder.tensor((1, 4)), builder.tensor((1, 4))
    builder.operator("RELU", [read], [written])
    builder.model.subgraphs.append(builder.graph)
    assert any("subgraphs" in note for note in analyse(builder.build([read], [written])).notes)


def test_an_already_compiled_file_is_reported():
    notes = analyse(one_operator("CUSTOM", [image()], [image()], custom="edgetpu-custom-op")).notes
    assert any("already compiled" in note for note in notes)
