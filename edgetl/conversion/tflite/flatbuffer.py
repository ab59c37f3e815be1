"""Reads flatbuffers from untrusted files without ever leaving the file; the lowest layer of all readers here.

Every offset, length and count in the file is checked before use. Each element read is charged to a budget that
grows with the file's size, so that a small file whose vectors refer to the same bytes many times over cannot keep a
reader busy. Both faults raise ConversionError.

Which reader to use: `graph` to look at a .tflite file, `schema` to change or write one, this module for any other
flatbuffer (metadata, Edge TPU packages). `schema` charges the same budget before it unpacks a file.
"""

from __future__ import annotations

import struct
from typing import Optional

import numpy as np

from edgetl.errors import ConversionError

UINT8, INT8 = struct.Struct("<B"), struct.Struct("<b")
UINT16, INT16 = struct.Struct("<H"), struct.Struct("<h")
UINT32, INT32 = struct.Struct("<I"), struct.Struct("<i")
UINT64, INT64 = struct.Struct("<Q"), struct.Struct("<q")
FLOAT32 = struct.Struct("<f")

# A genuine file refers to each of its elements once or twice.
_READS_PER_BYTE = 4
_MIN_READS = 1024


class Buffer:
    """The bytes of one file, read with bounds checks and a budget.

    `subject` is the name of the file in error messages, e.g. "the TFLite model".
    """

    def __init__(self, data: bytes | memoryview, subject: str) -> None:
        self.data = memoryview(data)
        self.subject = subject
        self._reads_left = _READS_PER_BYTE * len(self.data) + _MIN_READS

    def fault(self, reason: str) -> ConversionError:
        """The error to raise for a malformed file."""
        return ConversionError(f"{self.subject} cannot be read: {reason}; give an intact file")

    def spend(self, reads: int) -> None:
        """Charge `reads` elements to the budget.

        Raises:
            ConversionError: the file refers to far more elements than it has bytes for.
        """
        self._reads_left -= reads
        if self._reads_left < 0:
            raise self.fault("it refers to the same bytes over and over")

    def scalar(self, kind: struct.Struct, position: int) -> int:
        """One number of type `kind` at a position in bytes.

        Raises:
            ConversionError: the position is outside the file.
        """
        if not 0 <= position <= len(self.data) - kind.size:
            raise self.fault(f"it points to byte {position} of {len(self.data)}")
        (number,) = kind.unpack_from(self.data, position)
        return number  # type: ignore[no-any-return]

    def part(self, position: int, size: int) -> memoryview:
        """A view of `size` bytes, without a copy.

        Raises:
            ConversionError: not all of them are inside the file.
        """
        if position < 0 or size < 0 or position + size > len(self.data):
            raise self.fault(f"it points to bytes {position} to {position + size} of {len(self.data)}")
        return self.data[position : position + size]

    def nested(self, content: memoryview, subject: str) -> Buffer:
        """A file embedded in this one; its size is charged to this file's budget."""
        self.spend(len(content))
        return Buffer(content, subject)

    def root(self, identifier: bytes = b"") -> Table:
        """The root table of the file.

        Raises:
            ConversionError: bytes 4 to 7 are not `identifier`, where one is given.
        """
        if identifier and bytes(self.data[4:8]) != identifier:
            raise self.fault(f"it has no '{identifier.decode()}' at byte 4")
        return Table(self, self.scalar(UINT32, 0))


class Table:
    """One table of a flatbuffer, whose fields are addressed by their number in the schema.

    An absent field reads as its default. Every method raises ConversionError if the file points outside itself or
    exceeds its budget.
    """

    def __init__(self, buffer: Buffer, position: int) -> None:
        buffer.spend(1)
        self.buffer = buffer
        self._position = position
        self._fields = position - buffer.scalar(INT32, position)
        self._fields_size = buffer.scalar(UINT16, self._fields)

    def number(self, field: int, kind: struct.Struct, default: int = 0) -> int:
        """A number stored in the table itself."""
        position = self._field_position(field)
        return default if position is None else self.buffer.scalar(kind, position)

    def table(self, field: int) -> Optional[Table]:
        """The table that the field points to, or None."""
        position = self._target(field)
        return None if position is None else Table(self.buffer, position)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        return [Table(self.buffer, position) for position in self._targets(field)]

    def numbers(self, field: int, kind: struct.Struct) -> tuple[int, ...]:
        """A vector of numbers of type `kind`."""
        start, count = self._vector(field, kind.size)
        return tuple(np.frombuffer(self.buffer.data, kind.format, count, start).tolist()) if count else ()

    def octets(self, field: int) -> memoryview:
        """A vector of bytes, without a copy; empty where the field is absent."""
        position = self._target(field)
        return memoryview(b"") if position is None else self._octets_at(position)

    def octet_vectors(self, field: int) -> list[memoryview]:
        """A vector of byte strings, without copies."""
        return [self._octets_at(position) for position in self._targets(field)]

    def text(self, field: int) -> str:
        """A string that is safe to print: invalid UTF-8 and unprintable characters are replaced by U+FFFD."""
        content = self.octets(field)
        self.buffer.spend(len(content))
        decoded = bytes(content).decode("utf-8", "replace")
        if decoded.isprintable():
            return decoded
        return "".join(character if character.isprintable() else "\ufffd" for character in decoded)

    def length(self, field: int) -> int:
        """The number of elements of a vector or string, which may claim more than the file holds."""
        position = self._target(field)
        return 0 if position is None else self.buffer.scalar(UINT32, position)

    def _field_position(self, field: int) -> Optional[int]:
        entry = 4 + 2 * field
        if entry + UINT16.size > self._fields_size:
            return None
        offset = self.buffer.scalar(UINT16, self._fields + entry)
        return self._position + offset if offset else None

    def _target(self, field: int) -> Optional[int]:
        position = self._field_position(field)
        return None if position is None else position + self.buffer.scalar(UINT32, position)

    def _targets(self, field: int) -> list[int]:
        """The positions that a vector of offsets refers to."""
        start, count = self._vector(field, UINT32.size)
        positions = range(start, start + UINT32.size * count, UINT32.size)
        return [position + self.buffer.scalar(UINT32, position) for position in positions]

    def _octets_at(self, position: int) -> memoryview:
        return self.buffer.part(position + UINT32.size, self.buffer.scalar(UINT32, position))

    def _vector(self, field: int, element_size: int) -> tuple[int, int]:
        """Position of the first element and number of elements."""
        position = self._target(field)
        if position is None:
            return 0, 0
        count = self.buffer.scalar(UINT32, position)
        self.buffer.part(position + UINT32.size, count * element_size)
        self.buffer.spend(count)
        return position + UINT32.size, count
