"""Hides the flatbuffer format behind reads that cannot leave the file; the model and package readers call it.

Every offset, length and count comes from a file that somebody else wrote. A read outside the file, or a
file that refers to the same bytes again and again to look larger than it is, raises ConversionError.
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

# An honest file names each of its elements once or twice; one that names them more often is an attack.
_READS_PER_BYTE = 4
_READS_AT_LEAST = 1024


class Buffer:
    """Bytes that answer only for what lies inside them.

    `subject` is how messages call the file ("the model", "the Edge TPU package").
    """

    def __init__(self, data: bytes | memoryview, subject: str) -> None:
        self.data = memoryview(data)
        self.subject = subject
        self._reads_left = _READS_PER_BYTE * len(self.data) + _READS_AT_LEAST

    def fault(self, what: str) -> ConversionError:
        """The error to raise for a file that is not what it should be."""
        return ConversionError(f"{self.subject} cannot be read: {what}. Give an intact file")

    def spend(self, reads: int) -> None:
        """Count elements read, so that a file cannot cost more than its size.

        Raises:
            ConversionError: the file refers to far more elements than it has bytes for.
        """
        self._reads_left -= reads
        if self._reads_left < 0:
            raise self.fault("it refers to the same bytes over and over")

    def scalar(self, kind: struct.Struct, position: int) -> int:
        """One number of the kind at the position.

        Raises:
            ConversionError: the position is outside the file.
        """
        if not 0 <= position <= len(self.data) - kind.size:
            raise self.fault(f"it points to byte {position} of {len(self.data)}")
        return kind.unpack_from(self.data, position)[0]

    def part(self, position: int, size: int) -> memoryview:
        """A view of `size` bytes, not copied.

        Raises:
            ConversionError: they are not all inside the file.
        """
        if position < 0 or size < 0 or position + size > len(self.data):
            raise self.fault(f"it points to bytes {position} to {position + size} of {len(self.data)}")
        return self.data[position : position + size]

    def nested(self, content: memoryview, subject: str) -> Buffer:
        """A file within this one, whose bytes count as read."""
        self.spend(len(content))
        return Buffer(content, subject)

    def root(self, identifier: bytes = b"") -> Table:
        """The table that the file starts with.

        Raises:
            ConversionError: the file does not carry the four bytes of the identifier, where one is given.
        """
        if identifier and bytes(self.data[4:8]) != identifier:
            raise self.fault(f"it has no '{identifier.decode()}' mark at byte 4")
        return Table(self, self.scalar(UINT32, 0))


class Table:
    """One table of a flatbuffer; fields are asked for by their number in the schema.

    A field that is absent has its default. Every method raises ConversionError where the file points
    outside itself.
    """

    def __init__(self, buffer: Buffer, position: int) -> None:
        buffer.spend(1)
        self.buffer = buffer
        self._position = position
        self._fields = position - buffer.scalar(INT32, position)
        self._fields_size = buffer.scalar(UINT16, self._fields)

    def number(self, field: int, kind: struct.Struct, default: int = 0) -> int:
        """A number that is stored in the table itself."""
        place = self._place(field)
        return default if place is None else self.buffer.scalar(kind, place)

    def table(self, field: int) -> Optional[Table]:
        """A table that the field points to."""
        place = self._target(field)
        return None if place is None else Table(self.buffer, place)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, count = self._vector(field, UINT32.size)
        places = (start + UINT32.size * index for index in range(count))
        return [Table(self.buffer, place + self.buffer.scalar(UINT32, place)) for place in places]

    def numbers(self, field: int, kind: struct.Struct) -> tuple[int, ...]:
        """A vector of numbers of the kind."""
        start, count = self._vector(field, kind.size)
        return tuple(np.frombuffer(self.buffer.data, kind.format, count, start).tolist()) if count else ()

    def octets(self, field: int) -> memoryview:
        """A vector of bytes, not copied; empty where the field is absent."""
        place = self._target(field)
        if place is None:
            return memoryview(b"")
        return self.buffer.part(place + UINT32.size, self.buffer.scalar(UINT32, place))

    def octet_vectors(self, field: int) -> list[memoryview]:
        """A vector of byte strings, not copied."""
        start, count = self._vector(field, UINT32.size)
        found = []
        for place in (start + UINT32.size * index for index in range(count)):
            target = place + self.buffer.scalar(UINT32, place)
            found.append(self.buffer.part(target + UINT32.size, self.buffer.scalar(UINT32, target)))
        return found

    def text(self, field: int) -> str:
        """A string, safe to print: what is not UTF-8 or would steer a terminal is replaced."""
        content = self.octets(field)
        self.buffer.spend(len(content))
        decoded = bytes(content).decode("utf-8", "replace")
        if decoded.isprintable():
            return decoded
        return "".join(character if character.isprintable() else "\ufffd" for character in decoded)

    def _place(self, field: int) -> Optional[int]:
        entry = 4 + 2 * field
        if entry + UINT16.size > self._fields_size:
            return None
        offset = self.buffer.scalar(UINT16, self._fields + entry)
        return self._position + offset if offset else None

    def _target(self, field: int) -> Optional[int]:
        place = self._place(field)
        return None if place is None else place + self.buffer.scalar(UINT32, place)

    def _vector(self, field: int, element_size: int) -> tuple[int, int]:
        place = self._target(field)
        if place is None:
            return 0, 0
        count = self.buffer.scalar(UINT32, place)
        self.buffer.part(place + UINT32.size, count * element_size)
        self.buffer.spend(count)
        return place + UINT32.size, count
