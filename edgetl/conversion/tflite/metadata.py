"""Reads and writes TFLite metadata: the meaning of a model's tensors, and its labels, inside the .tflite file.

Tables are written from dicts {field number: value}; the numbers are those of metadata_schema.fbs (version 1.1.0 of
github.com/tensorflow/tflite-support, tensorflow_lite_support/metadata). Associated files form a zip archive after the
flatbuffer, as that project's writer places them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from edgetl.conversion.tflite import schema
from edgetl.conversion.tflite.flatbuffer import FLOAT32, UINT8, Buffer, Table
from edgetl.errors import ConversionError

ENTRY_NAME = "TFLITE_METADATA"
"""Name of the metadata entry whose buffer contains the flatbuffer."""

LABELS_FILE = "labels.txt"

LABELS_LIMIT_BYTES = 16 * 1024 * 1024
"""A larger label file is ignored."""

_IDENTIFIER = b"M001"


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of an image classifier.

    `normalization` is (mean, std). A client computes (pixel - mean) / std, then quantizes with the scale and zero
    point of the input, if the input is quantized.
    """

    name: str
    description: str
    version: str
    licence: str
    normalization: tuple[float, float]


def encode(metadata: ModelMetadata) -> bytes:
    """The metadata flatbuffer of a model from one RGB image to the probabilities of the labels in `LABELS_FILE`."""
    mean, std = metadata.normalization
    image = {
        _TENSOR.name: "image",
        _TENSOR.description: "RGB image, 0..255",
        _TENSOR.content: {_CONTENT.kind: _Byte(_IMAGE_PROPERTIES), _CONTENT.properties: {0: _Byte(_RGB)}},
        _TENSOR.process_units: [{0: _Byte(_NORMALIZATION), 1: {0: (mean,), 1: (std,)}}],
        _TENSOR.stats: {0: (255.0,), 1: (0.0,)},
    }
    probabilities = {
        _TENSOR.name: "probability",
        _TENSOR.description: "Probability of each label, in the order of the label file",
        _TENSOR.content: {_CONTENT.kind: _Byte(_FEATURE_PROPERTIES), _CONTENT.properties: {}},
        _TENSOR.stats: {0: (1.0,), 1: (0.0,)},
        _TENSOR.files: [{0: LABELS_FILE, 1: "One label a line", 2: _Byte(_TENSOR_AXIS_LABELS)}],
    }
    model = {
        _MODEL.name: metadata.name,
        _MODEL.description: metadata.description,
        _MODEL.version: metadata.version,
        _MODEL.subgraphs: [{_SUBGRAPH.inputs: [image], _SUBGRAPH.outputs: [probabilities]}],
        _MODEL.licence: metadata.licence,
        _MODEL.min_parser_version: "1.0.0",
    }
    builder = schema.new_builder()
    builder.Finish(_write(builder, model), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def decode(content: bytes | memoryview) -> ModelMetadata:
    """The inverse of `encode`, also for metadata from other writers; absent fields are "" or (0.0, 1.0).

    Raises:
        ConversionError: the bytes are not intact TFLite metadata.
    """
    root = Buffer(content, "the metadata of the TFLite model").root(_IDENTIFIER)
    return ModelMetadata(
        name=_text(root, _MODEL.name),
        description=_text(root, _MODEL.description),
        version=_text(root, _MODEL.version),
        licence=_text(root, _MODEL.licence),
        normalization=_normalization(root),
    )


def append_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """`model` followed by `LABELS_FILE`: uncompressed, as clients expect, and with a fixed timestamp.

    Raises:
        ConversionError: a label is empty, has spaces around it, or spans several lines.
    """
    for label in labels:
        if not label or label != label.strip() or len(label.splitlines()) != 1:
            raise ConversionError(
                f"invalid label {label!r}: a label file has one label a line; rename the class to one non-empty line"
            )
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "".join(f"{label}\n" for label in labels))
    return buffer.getvalue()


def read_labels(model: bytes) -> tuple[str, ...]:
    """The labels appended to a model; empty if it has no readable label file."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            if not names or archive.getinfo(names[0]).file_size > LABELS_LIMIT_BYTES:
                return ()
            return tuple(archive.read(names[0]).decode("utf-8").splitlines())
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, EOFError, OSError):
        return ()


class _Model(NamedTuple):
    name: int = 0
    description: int = 1
    version: int = 2
    subgraphs: int = 3
    licence: int = 5
    min_parser_version: int = 7


class _Subgraph(NamedTuple):
    inputs: int = 2
    outputs: int = 3


class _Tensor(NamedTuple):
    name: int = 0
    description: int = 1
    content: int = 3
    process_units: int = 4
    stats: int = 5
    files: int = 6


class _Content(NamedTuple):
    kind: int = 0
    properties: int = 1


_MODEL, _SUBGRAPH, _TENSOR, _CONTENT = _Model(), _Subgraph(), _Tensor(), _Content()
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_RGB = 1
_NORMALIZATION = 1
_TENSOR_AXIS_LABELS = 2


class _Byte(int):
    """A one-byte scalar: an enum value, or the type of the union that follows."""


def _write(builder: Any, table: dict[int, Any]) -> int:
    """Write a table {field: value} after its children, as the format requires; returns its offset."""
    offsets = {field: _write_value(builder, value) for field, value in table.items() if not isinstance(value, _Byte)}
    builder.StartObject(max(table, default=-1) + 1)
    for field, value in table.items():
        if isinstance(value, _Byte):
            builder.PrependInt8Slot(field, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, offsets[field], 0)
    return int(builder.EndObject())


def _write_value(builder: Any, value: Any) -> int:
    """A string, a table, a vector of floats (tuple) or a vector of tables (list)."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, dict):
        return _write(builder, value)
    entries: list[Any] = [_write(builder, table) for table in value] if isinstance(value, list) else list(value)
    builder.StartVector(4, len(entries), 4)
    for entry in reversed(entries):
        if isinstance(value, list):
            builder.PrependUOffsetTRelative(entry)
        else:
            builder.PrependFloat32(entry)
    return int(builder.EndVector())


def _normalization(root: Table) -> tuple[float, float]:
    """(mean, std) of the first input of the first graph."""
    image = _first(_first(root, _MODEL.subgraphs), _SUBGRAPH.inputs)
    unit = _first(image, _TENSOR.process_units)
    options = None if unit is None or unit.number(0, UINT8) != _NORMALIZATION else unit.table(1)
    if options is None:
        return 0.0, 1.0
    mean, std = options.numbers(0, FLOAT32), options.numbers(1, FLOAT32)
    return (*mean, 0.0)[0], (*std, 1.0)[0]


def _text(table: Table, field: int) -> str:
    """A string with its line breaks, e.g. a licence text."""
    return bytes(table.octets(field)).decode("utf-8", "replace")


def _first(table: Optional[Table], field: int) -> Optional[Table]:
    """The first entry of a vector of tables."""
    return next(iter(table.tables(field)), None) if table is not None else None
