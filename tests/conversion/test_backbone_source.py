"""A .tflite file from elsewhere is accepted as a backbone if it is one, otherwise refused in one line."""

from __future__ import annotations

import random

import pytest

from edgetl.conversion import find_backbone_source
from edgetl.errors import ConversionError, EdgetlError, OptionError, StorageError
from tests.conversion.edgetpu.graphs import GraphBuilder, options
from tests.conversion.edgetpu.nonsense import nonsense


def backbone(kind: str = "UINT8", image=(1, 8, 8, 3), output=(1, 3), custom: str = "") -> bytes:
    builder = GraphBuilder()
    frame, embedding = builder.tensor(image, "UINT8"), builder.tensor(output, kind)
    name = "CUSTOM" if custom else "AVERAGE_POOL_2D"
    table = None if custom else options("Pool2DOptions", padding=1, filterHeight=8, filterWidth=8)
    builder.operator(name, [frame], [embedding], table, custom=custom)
    return builder.build([frame], [embedding])


@pytest.fixture
def file(tmp_path):
    def write(content: bytes) -> str:
        path = tmp_path / "mine.tflite"
        path.write_bytes(content)
        return str(path)

    return write


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("output", [(1, 3), (1, 1, 1, 3)])
def test_a_model_with_one_embedding_is_accepted(file, kind, output):
    source = find_backbone_source(file(backbone(kind, output=output)))
    assert source.name == "mine"
    assert source.preprocess.size == (8, 8)
    assert source.compile("int8").embedding == {"size": 3, "dtype": kind.lower(), "scale": 0.5, "zero_point": 0}
    assert (source.assemble, source.edgetpu_model) == (None, None)


def test_a_float_model_is_reported_as_float32(file):
    with pytest.raises(OptionError, match="in float32, not in int8; use --quantize float32"):
        find_backbone_source(file(backbone("FLOAT32"))).compile("int8")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (backbone(output=(1, 2, 2, 3)), r"must be one embedding, \[1, d\] or \[1, 1, 1, d\], received \[1, 2, 2, 3\]"),
        (backbone(output=()), r"must be one embedding.* received \[\]"),
        (backbone(image=(2, 8, 8, 3)), r"must be uint8 \[1, 8, 8, 3\], received uint8 \[2, 8, 8, 3\]"),
        (backbone(image=(1, 64)), r"expected one image: \[1, height, width, 3\]"),
        (backbone(custom="edgetpu-custom-op"), "give it as --edgetpu-backbone"),
        (b"PK" * 9, "no 'TFL3' at byte 4"),
    ],
)
def test_any_other_file_is_refused_with_the_reason(file, content, line):
    with pytest.raises((ConversionError, OptionError), match=line):
        find_backbone_source(file(content))


def test_an_unreadable_file_is_reported(file, tmp_path):
    with pytest.raises(StorageError, match="cannot read the backbone"):
        find_backbone_source(file(backbone()), edgetpu_backbone=tmp_path / "missing_edgetpu.tflite")


def test_random_valid_graphs_are_refused_in_one_line(file):
    chance = random.Random(5)
    for _ in range(300):
        with pytest.raises(EdgetlError, match=r"^[^\n]+$"):
            find_backbone_source(file(nonsense(chance)))
