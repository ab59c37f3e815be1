"""Hides the TFLite metadata format: what a model's tensors mean, and its labels, inside the file; `standalone` writes
it, `description` reads it.

Tables are given as {slot: value}: the slots are the positions of the fields in metadata_schema.fbs (version 1.1.0 of
github.com/tensorflow/tflite-support, tensorflow_lite_support/metadata). The associated files are a zip archive behind
the flatbuffer, as that project's own writer lays them.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgetl.conversion.tflite import schema
from edgetl.errors import ConversionError

ENTRY_NAME = "TFLITE_METADATA"
"""The name of the model's metadata entry whose buffer holds the flatbuffer."""

LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class ModelMetadata:
    """What is said of an image classifier.

    `normalization` is (mean, std): a reader normalises pixels with it, then quantizes them with the
    input's own scale and zero point, where it has them.
    """

    name: str
    description: str
    version: str
    licence: str
    normalization: tuple[float, float]


def encode(metadata: ModelMetadata) -> bytes:
    """The flatbuffer for a model of one RGB image in, probabilities of the labels in `LABELS_FILE` out."""
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
    builder.Finish(_write(builder, model), file_identifier=b"M001")
    return bytes(builder.Output())


def decode(content: bytes) -> ModelMetadata:
    """The inverse of `encode`, for metadata that others wrote too; what is not there is empty, or (0, 1)."""
    if content[4:8] != b"M001":
        raise ConversionError("the metadata in the TFLite model is of an unknown kind (no 'M001' at byte 4)")
    try:
        reader = _Reader(content)
        return ModelMetadata(
            name=reader.text(reader.root, _MODEL.name),
            description=reader.text(reader.root, _MODEL.description),
            version=reader.text(reader.root, _MODEL.version),
            licence=reader.text(reader.root, _MODEL.licence),
            normalization=_normalization(reader),
        )
    except (struct.error, IndexError) as error:
        raise ConversionError("the metadata in the TFLite model is damaged") from error


def append_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """`model` with `LABELS_FILE` behind it: uncompressed, as readers expect, and with a fixed time."""
    for label in labels:
        if not label or label != label.strip() or len(label.splitlines()) != 1:
            raise ConversionError(f"a label file holds one label a line; {label!r} cannot stand in it")
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "".join(f"{label}\n" for label in labels))
    return buffer.getvalue()


def read_labels(model: bytes) -> tuple[str, ...]:
    """The labels behind a model; none where there is no label file."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            if not names or archive.getinfo(names[0]).file_size > LABELS_LIMIT_BYTES:
                return ()
            return tuple(archive.read(names[0]).decode("utf-8").splitlines())
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, EOFError, OSError):
        return ()


LABELS_LIMIT_BYTES = 16 * 1024 * 1024


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
    """A scalar of one byte: an enum, or which member of a union follows."""


def _write(builder: Any, table: dict[int, Any]) -> int:
    """Writes a table {slot: value} behind its children, as the format wants it; returns its offset."""
    offsets = {slot: _write_value(builder, value) for slot, value in table.items() if not isinstance(value, _Byte)}
    builder.StartObject(max(table, default=-1) + 1)
    for slot, value in table.items():
        if isinstance(value, _Byte):
            builder.PrependInt8Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
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


def _normalization(reader: _Reader) -> tuple[float, float]:
    """Of the first input of the first graph."""
    image = reader.first_table(reader.first_table(reader.root, _MODEL.subgraphs), _SUBGRAPH.inputs)
    unit = reader.first_table(image, _TENSOR.process_units)
    if reader.byte(unit, 0) != _NORMALIZATION:
        return 0.0, 1.0
    options = reader.table(unit, 1)
    return reader.first_float(options, 0, 0.0), reader.first_float(options, 1, 1.0)


class _Reader:
    """Follows the offsets of a flatbuffer; a position is None where a field is absent."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.root = self._target(0)

    def field(self, table: int | None, slot: int) -> int | None:
        if table is None:
            return None
        (distance,) = struct.unpack_from("<i", self._content, table)
        vtable = table - distance
        (size,) = struct.unpack_from("<H", self._content, vtable)
        if 4 + 2 * slot >= size:
            return None
        (offset,) = struct.unpack_from("<H", self._content, vtable + 4 + 2 * slot)
        return table + offset if offset else None

    def table(self, table: int | None, slot: int) -> int | None:
        position = self.field(table, slot)
        return None if position is None else self._target(position)

    def first(self, table: int | None, slot: int) -> int | None:
        """The position of the first entry of a vector."""
        vector = self.table(table, slot)
        if vector is None or not struct.unpack_from("<I", self._content, vector)[0]:
            return None
        return vector + 4

    def first_table(self, table: int | None, slot: int) -> int | None:
        entry = self.first(table, slot)
        return None if entry is None else self._target(entry)

    def text(self, table: int | None, slot: int) -> str:
        start = self.table(table, slot)
        if start is None:
            return ""
        (length,) = struct.unpack_from("<I", self._content, start)
        return self._content[start + 4 : start + 4 + length].decode("utf-8", "replace")

    def byte(self, table: int | None, slot: int) -> int:
        position = self.field(table, slot)
        return 0 if position is None else self._content[position]

    def first_float(self, table: int | None, slot: int, default: float) -> float:
        entry = self.first(table, slot)
        return default if entry is None else float(struct.unpack_from("<f", self._content, entry)[0])

    def _target(self, position: int) -> int:
        return position + int(struct.unpack_from("<I", self._content, position)[0])
