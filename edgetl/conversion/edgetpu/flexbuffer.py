"""Hides the flexbuffer format, as far as the Edge TPU's custom operator uses it; the package reader calls it.

Only a map at the root, and strings, blobs and vectors of them as its values, are understood.
"""

from __future__ import annotations

from edgetl.conversion.tflite.flatbuffer import UINT8, UINT16, UINT32, UINT64, Buffer

_UNSIGNED = {1: UINT8, 2: UINT16, 4: UINT32, 8: UINT64}
_STRING, _MAP, _VECTOR, _BLOB = 5, 9, 10, 25
_LONGEST_KEY = 64


def read_map(buffer: Buffer) -> dict[str, list[memoryview]]:
    """The byte strings of the map at the root, by key; a single string is a list of one.

    Values of other kinds (the numbers beside the packages) are left out.

    Raises:
        ConversionError: the bytes are not a flexbuffer with a map at its root.
    """
    size = len(buffer.data)
    width = buffer.scalar(UINT8, size - 1)
    kind = buffer.scalar(UINT8, size - 2)
    if kind >> 2 != _MAP:
        raise buffer.fault("it is no flexbuffer map")
    root = _follow(buffer, size - 2 - width, width)
    width = 1 << (kind & 3)
    keys = _keys(buffer, root, width)
    found = {}
    for key, (place, value_kind) in zip(keys, _elements(buffer, root, width)):
        found[key] = _byte_strings(buffer, place, width, value_kind)
    return {key: strings for key, strings in found.items() if strings}


def _number(buffer: Buffer, place: int, width: int) -> int:
    if width not in _UNSIGNED:
        raise buffer.fault(f"it has a number {width} bytes wide")
    return buffer.scalar(_UNSIGNED[width], place)


def _follow(buffer: Buffer, place: int, width: int) -> int:
    """Where an offset points: back by its value."""
    return place - _number(buffer, place, width)


def _count(buffer: Buffer, vector: int, width: int) -> int:
    count = _number(buffer, vector - width, width)
    buffer.part(vector, count * width)
    buffer.spend(count)
    return count


def _elements(buffer: Buffer, vector: int, width: int) -> list[tuple[int, int]]:
    """Place and packed type of each element of a vector; the types stand behind the elements."""
    count = _count(buffer, vector, width)
    types = buffer.part(vector + count * width, count)
    return [(vector + index * width, types[index]) for index in range(count)]


def _keys(buffer: Buffer, root: int, width: int) -> list[str]:
    vector = _follow(buffer, root - 3 * width, width)
    key_width = _number(buffer, root - 2 * width, width)
    if key_width not in _UNSIGNED:
        raise buffer.fault(f"its keys are {key_width} bytes wide")
    places = (vector + index * key_width for index in range(_count(buffer, vector, key_width)))
    return [_key(buffer, _follow(buffer, place, key_width)) for place in places]


def _key(buffer: Buffer, place: int) -> str:
    rest = len(buffer.data) - place
    content = bytes(buffer.part(place, min(_LONGEST_KEY, max(rest, 0))))
    return content.split(b"\0", 1)[0].decode("utf-8", "replace")


def _byte_strings(buffer: Buffer, place: int, width: int, kind: int) -> list[memoryview]:
    target_width = 1 << (kind & 3)
    if kind >> 2 in (_STRING, _BLOB):
        target = _follow(buffer, place, width)
        return [buffer.part(target, _number(buffer, target - target_width, target_width))]
    if kind >> 2 == _VECTOR:
        vector = _follow(buffer, place, width)
        elements = _elements(buffer, vector, target_width)
        strings = [
            _byte_strings(buffer, inner, target_width, inner_kind)
            for inner, inner_kind in elements
            if inner_kind >> 2 in (_STRING, _BLOB)
        ]
        return [string for inner in strings for string in inner]
    return []
