"""Damaged and malicious files are refused soon and in one line."""

from __future__ import annotations

import random
import struct
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetl.conversion import describe
from edgetl.conversion.edgetpu import analyse, is_compiled, read_package, verify
from edgetl.errors import ConversionError
from tests.conversion.edgetpu.cases import mapped_model
from tests.conversion.edgetpu.graphs import GraphBuilder, one_operator, pack, unpack
from tests.conversion.edgetpu.mutation import mutate
from tests.conversion.edgetpu.nonsense import nonsense

RUNS = 2000
SLOWEST_S = 2.0


def survive(content: bytes, *readers) -> int:
    """How many of the readers took the file; anything but one line of ConversionError fails."""
    taken = 0
    for reader in readers:
        begin, complaint = time.process_time(), ""
        try:
            reader(content)
            taken += 1
        except ConversionError as error:
            complaint = str(error)
        assert "\n" not in complaint
        assert time.process_time() - begin < SLOWEST_S
    return taken


def test_damaged_models_raise_only_conversion_errors():
    sources = [mapped_model(name) for name in ("CONV_2D", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SPLIT", "STRIDED_SLICE")]
    chance = random.Random(1)
    taken = sum(survive(mutate(chance.choice(sources), chance), analyse) for _ in range(RUNS))
    assert 0 < taken < RUNS


def test_damaged_packages_raise_only_conversion_errors(pair):
    one = pair("split_concat")
    chance = random.Random(2)
    readers = (analyse, read_package, lambda content: verify(one.source, content))
    taken = sum(survive(mutate(one.compiled, chance), *readers) for _ in range(RUNS))
    assert 0 < taken < 3 * RUNS


def test_random_valid_graphs_raise_only_conversion_errors(pair):
    compiled = pair("split_concat").compiled
    chance = random.Random(3)
    readers = (analyse, describe, is_compiled, lambda content: verify(content, compiled))
    taken = sum(survive(nonsense(chance), *readers) for _ in range(RUNS // 4))
    assert taken > RUNS // 4


def test_a_model_without_operators_is_refused_as_not_quantized():
    builder = GraphBuilder()
    image = builder.tensor((1, 8, 8, 3))
    analysis = analyse(builder.build([image], [image]))
    assert analysis.ops == ()
    assert analysis.refused.startswith("Model not quantized")


def test_every_truncation_of_a_model_is_refused():
    whole = mapped_model("FULLY_CONNECTED")
    for size in range(len(whole) - 1):
        survive(whole[:size], analyse, read_package)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64, b"PK\3\4" + b"\0" * 60, b"\xff" * 4096])
def test_a_file_that_is_not_a_model_is_refused_in_one_line(content):
    with pytest.raises(ConversionError, match="intact file"):
        analyse(content)


def test_a_file_that_refers_to_one_vector_many_times_is_refused():
    """Ten thousand tensors that share one shape of ten thousand dimensions would be 10^8 reads."""
    count = 10_000
    builder = flatbuffers.Builder(1024)
    shape = builder.CreateNumpyVector(np.ones(count, np.int32))
    schema.TensorStart(builder)
    schema.TensorAddShape(builder, shape)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    with pytest.raises(ConversionError):
        analyse(bytes(builder.Output()))


def changed(change) -> bytes:
    model = unpack(mapped_model("CONV_2D"))
    change(model, model.subgraphs[0])
    return pack(model)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda model, graph: setattr(graph.operators[0], "inputs", [99, 1, 2]), "reads a tensor that does not exist"),
        (lambda model, graph: setattr(graph.operators[0], "inputs", [-2, 1, 2]), "reads a tensor that does not exist"),
        (lambda model, graph: setattr(graph.operators[0], "outputs", [99]), "writes tensor 99"),
        (lambda model, graph: setattr(graph.operators[0], "outputs", [-1]), "writes tensor -1"),
        (lambda model, graph: setattr(graph.operators[0], "outputs", [1]), "already set"),
        (lambda model, graph: setattr(graph.operators[0], "inputs", [3, 1, 2]), "before it is written"),
        (lambda model, graph: setattr(graph.operators[0], "opcodeIndex", 7), "refers to code 7"),
        (lambda model, graph: setattr(graph, "inputs", [-1]), "refers to tensor -1"),
        (lambda model, graph: setattr(graph, "outputs", [44]), "refers to tensor 44"),
        (lambda model, graph: setattr(graph.tensors[0], "buffer", 77), "refers to buffer 77"),
        (lambda model, graph: setattr(graph.tensors[0], "shape", [1] * 9), "9 dimensions"),
        (lambda model, graph: setattr(graph.tensors[1], "shape", [8, 3, 3, 5]), "does not match its shape"),
        (lambda model, graph: setattr(model, "subgraphs", []), "no subgraph"),
    ],
)
def test_a_graph_that_contradicts_itself_is_refused(change, fault):
    with pytest.raises(ConversionError, match=fault):
        analyse(changed(change))


def test_a_name_cannot_control_the_terminal():
    model = one_operator("CUSTOM", [{"shape": (1, 4)}], [{"shape": (1, 4)}], custom="evil\n\x1b[2J")
    assert all(op.op.isprintable() and op.reason.isprintable() for op in analyse(model).ops)


def test_operators_that_depend_on_each_other_are_refused():
    builder = GraphBuilder()
    first, second = builder.tensor((1, 4)), builder.tensor((1, 4))
    builder.operator("ADD", [second, second], [first])
    builder.operator("ADD", [first, first], [second])
    with pytest.raises(ConversionError, match="before it is written"):
        analyse(builder.build([], [second]))


@pytest.mark.parametrize("options", [b"", b"\0", b"\x24\x01", b"\xff" * 40, b"\0" * 40 + b"\x26\x01"])
def test_a_custom_operator_with_a_broken_flexbuffer_is_refused(options):
    model = unpack(one_operator("CUSTOM", [{"shape": (1, 4)}], [{"shape": (1, 4)}], custom="edgetpu-custom-op"))
    model.subgraphs[0].operators[0].customOptions = list(options)
    with pytest.raises(ConversionError, match="Edge TPU package"):
        read_package(pack(model))


def test_a_package_with_another_identifier_is_refused(pair):
    content = pair("split_concat").compiled
    place = content.index(b"DWN1")
    with pytest.raises(ConversionError, match="no 'DWN1'"):
        read_package(content[:place] + b"DWN9" + content[place + 4 :])


def test_a_vector_that_claims_four_billion_elements_costs_nothing():
    content = bytearray(mapped_model("CONV_2D"))
    for place in range(0, len(content) - 4, 4):
        damaged = bytearray(content)
        struct.pack_into("<I", damaged, place, 0xFFFFFFFF)
        survive(bytes(damaged), analyse)
