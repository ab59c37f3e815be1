"""Reads the flexbuffer inside the Edge TPU's custom operator.

Supported are a map at the root, with strings, blobs and vectors of them as values.
"""

from __future__ import annotations

from edgetl.conversion.tflite.flatbuffer import UINT8, UINT16, UINT32, UINT64, Buffer

_UNSIGNED = {1: UINT8, 2: UINT16, 4: UINT32, 8: UINT64}
_STRING, _MAP, _VECTOR, _BLOB = 5, 9, 10, 25
_MAX_KEY_BYTES = 64


def read_map(buffer: Buffer) -> dict[str, list[memoryview]]:
    """The byte strings in the map at the root, by key; a single string becomes a list of one.

    Values of other types (e.g. numbers) are omitted.

    Raises:
        ConversionError: the bytes are not a flexbuffer with a map at its root.
    """
    size = len(buffer.data)
    width = buffer.scalar(UINT8, size - 1)
    kind = buffer.scalar(UINT8, size - 2)
    if kind >> 2 != _MAP:
        raise buffer.fault("it is not a flexbuffer map")
    root = _follow(buffer, size - 2 - width, width)
    width = 1 << (kind & 3)
    keys = _keys(buffer, root, width)
    found = {}
    for key, (position, value_kind) in zip(keys, _elements(buffer, root, width)):
        found[key] = _byte_strings(buffer, position, width, value_kind)
    return {key: strings for key, strings in found.items() if strings}


def _number(buffer: Buffer, position: int, width: int) -> int:
    if width not in _UNSIGNED:
        raise buffer.fault(f"it has a number of {width} bytes")
    return buffer.scalar(_UNSIGNED[width], position)


def _follow(buffer: Buffer, position: int, width: int) -> int:
    """The target of an offset, which is relative and points backwards."""
    return position - _number(buffer, position, width)


def _count(buffer: Buffer, vector: int, width: int) -> int:
    count = _number(buffer, vector - width, width)
    buffer.part(vector, count * width)
    buffer.spend(count)
    return count


def _elements(buffer: Buffer, vector: int, width: int) -> list[tuple[int, int]]:
    """Position and packed type of each element of a vector; the types follow the elements."""
    count = _count(buffer, vector, width)
    types = buffer.part(vector + count * width, count)
    return [(vector + index * width, types[index]) for index in range(count)]


def _keys(buffer: Buffer, root: int, width: int) -> list[str]:
    vector = _follow(buffer, root - 3 * width, width)
    key_width = _number(buffer, root - 2 * width, width)
    if key_width not in _UNSIGNED:
        raise buffer.fault(f"it has key offsets of {key_width} bytes")
    positions = (vector + index * key_width for index in range(_count(buffer, vector, key_width)))
    return [_key(buffer, _follow(buffer, position, key_width)) for position in positions]


def _key(buffer: Buffer, position: int) -> str:
    rest = len(buffer.data) - position
    content = bytes(buffer.part(position, min(_MAX_KEY_BYTES, max(rest, 0))))
    return content.split(b"\0", 1)[0].decode("utf-8", "replace")


def _byte_strings(buffer: Buffer, position: int, width: int, kind: int) -> list[memoryview]:
    target_width = 1 << (kind & 3)
    if kind >> 2 in (_STRING, _BLOB):
        target = _follow(buffer, position, width)
        return [buffer.part(target, _number(buffer, target - target_width, target_width))]
    if kind >> 2 == _VECTOR:
        vector = _follow(buffer, position, width)
        elements = _elements(buffer, vector, target_width)
        strings = [
            _byte_strings(buffer, inner, target_width, inner_kind)
            for inner, inner_kind in elements
            if inner_kind >> 2 in (_STRING, _BLOB)
        ]
        return [string for inner in strings for string in inner]
    return []
