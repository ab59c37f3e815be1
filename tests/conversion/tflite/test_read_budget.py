"""Small files whose parts refer to the same bytes many times over cannot keep a reader busy."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import time
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as generated

from edgetl.conversion import append_last_layer, describe, find_backbone_source, list_operators
from edgetl.conversion.edgetpu import analyse, is_compiled
from edgetl.conversion.tflite import metadata, schema
from edgetl.conversion.tflite.pixel_input import take_raw_pixels
from edgetl.conversion.tflite.read_budget import TABLES, UNIONS
from edgetl.errors import ConversionError

COUNT = 10_000
LONGEST_S = 2.0


def offsets(builder, offset: int, count: int = COUNT) -> int:
    """A vector that refers to one table or string `count` times."""
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def table(builder, fields: dict[int, int]) -> int:
    builder.StartObject(max(fields, default=-1) + 1)
    for field, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    return builder.EndObject()


def finished(builder, fields: dict[int, int]) -> bytes:
    builder.Finish(table(builder, fields), b"TFL3")
    return bytes(builder.Output())


def graphs_that_share_tensors() -> bytes:
    builder = flatbuffers.Builder(1024)
    graph = table(builder, {0: offsets(builder, table(builder, {}))})
    return finished(builder, {2: offsets(builder, graph)})


def tensors_that_share_a_name() -> bytes:
    builder = flatbuffers.Builder(1024)
    tensor = table(builder, {3: builder.CreateString("a" * 8 * COUNT)})
    return finished(builder, {2: offsets(builder, table(builder, {0: offsets(builder, tensor)}), 1)})


def tensors_that_share_a_shape() -> bytes:
    builder = flatbuffers.Builder(1024)
    tensor = table(builder, {0: builder.CreateNumpyVector(np.ones(COUNT, np.int32))})
    return finished(builder, {2: offsets(builder, table(builder, {0: offsets(builder, tensor)}), 1)})


def operators_that_share_inputs() -> bytes:
    builder = flatbuffers.Builder(1024)
    operator = table(builder, {1: builder.CreateNumpyVector(np.zeros(COUNT, np.int32))})
    return finished(builder, {2: offsets(builder, table(builder, {3: offsets(builder, operator)}), 1)})


def signatures_that_share_tensors() -> bytes:
    builder = flatbuffers.Builder(1024)
    signature = table(builder, {0: offsets(builder, table(builder, {}))})
    graphs = offsets(builder, table(builder, {}), 1)
    return finished(builder, {2: graphs, 7: offsets(builder, signature)})


FILES = (
    graphs_that_share_tensors,
    tensors_that_share_a_name,
    tensors_that_share_a_shape,
    operators_that_share_inputs,
    signatures_that_share_tensors,
)
CHANGERS = (
    take_raw_pixels,
    lambda model: append_last_layer(model, np.zeros((3, 2)), np.zeros(2), ["a", "b"]),
)
LOOKERS = (analyse, describe, is_compiled, list_operators)


def refused_soon(reader, content) -> None:
    begin = time.process_time()
    with pytest.raises(ConversionError, match=r"^[^\n]+$"):
        reader(content)
    assert time.process_time() - begin < LONGEST_S


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", CHANGERS)
def test_changing_a_small_hostile_file_fails_soon(file, change):
    content = file()
    assert len(content) < 200_000
    refused_soon(change, content)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("look", LOOKERS)
def test_reading_a_small_hostile_file_ends_soon(file, look):
    """Some are accepted: a reader that follows neither further graphs nor signatures has no work with them."""
    begin = time.process_time()
    with contextlib.suppress(ConversionError):
        look(file())
    assert time.process_time() - begin < LONGEST_S


@pytest.mark.parametrize("file", FILES)
def test_building_from_a_small_hostile_file_fails_soon(file, tmp_path):
    path = tmp_path / "mine.tflite"
    path.write_bytes(file())
    refused_soon(find_backbone_source, str(path))


def test_reading_hostile_metadata_ends_soon():
    builder = flatbuffers.Builder(1024)
    graph = table(builder, {2: offsets(builder, table(builder, {}))})
    builder.Finish(table(builder, {3: offsets(builder, graph)}), b"M001")
    begin = time.process_time()
    metadata.decode(bytes(builder.Output()))  # it follows only the first of each
    assert time.process_time() - begin < LONGEST_S


def test_the_budget_knows_every_field_that_the_installed_schema_unpacks():
    unpacked = {name[:-1]: fields_of(name[:-1]) for name in vars(generated) if hasattr(class_of(name), "_UnPack")}
    assert {name: fields for name, fields in unpacked.items() if fields} == {
        name: set(fields) for name, fields in TABLES.items()
    }
    for union, members in UNIONS.items():
        known = {number: name for name, number in vars(getattr(generated, union)).items() if isinstance(number, int)}
        assert {number: name for number, name in known.items() if name in TABLES} == dict(members)


def class_of(name: str):
    return getattr(generated, name) if name.endswith("T") else None


@functools.cache
def generated_classes() -> dict[str, str]:
    """The source of each generated class. `inspect.getsource` of a class parses the whole file, for each class."""
    parts = re.split(r"^class (\w+)\(", inspect.getsource(generated), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def fields_of(name: str) -> set[int]:
    """The numbers of the fields of a generated class that are vectors, strings, tables or unions."""
    source = generated_classes()[name]
    methods = re.findall(r"    def \w+\(self(?:, j)?\):\n(.*?)(?=\n    def |\n    # |\Z)", source, re.S)
    sized = [body for body in methods if re.search(r"\.(String|Union|Vector|Indirect|GetVectorAsNumpy)\(", body)]
    return {(int(re.search(r"_tab\.Offset\((\d+)\)", body)[1]) - 4) // 2 for body in sized}


def test_published_models_stay_within_the_budget(shared):
    for path in sorted(Path(shared("coral/pairs")).glob("*.tflite")):
        schema.read_model(path.read_bytes())
        describe(path.read_bytes())
