"""Damages files in ways that expose careless readers, for the fuzz test and the fuzz benchmark."""

from __future__ import annotations

import random
import struct

_EXTREMES = (0, 1, 4, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_HEAD, _TAIL = 4096, 32768  # where flatbuffers keep what points to the rest


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A damaged copy: a few numbers or bytes replaced, a stretch repeated, or an end cut off."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        chance.choice((_replace_number, _replace_number, _point_nearby, _flip_bit, _repeat, _cut))(damaged, chance)
        if len(damaged) < 16:
            break
    return bytes(damaged)


def _place(damaged: bytearray, chance: random.Random, size: int) -> int:
    """Anywhere, but mostly where the structure is."""
    last = len(damaged) - size
    zone = chance.random()
    if zone < 0.4:
        last = min(last, _HEAD)
    elif zone < 0.8:
        return chance.randint(max(0, last - _TAIL), last)
    return chance.randint(0, last)


def _replace_number(damaged: bytearray, chance: random.Random) -> None:
    place = _place(damaged, chance, 8) & ~3
    value = chance.choice((*_EXTREMES, len(damaged), chance.getrandbits(32)))
    struct.pack_into("<I", damaged, place, value & 0xFFFFFFFF)


def _point_nearby(damaged: bytearray, chance: random.Random) -> None:
    place = _place(damaged, chance, 4) & ~3
    (value,) = struct.unpack_from("<I", damaged, place)
    struct.pack_into("<I", damaged, place, (value + chance.randint(-64, 64)) & 0xFFFFFFFF)


def _flip_bit(damaged: bytearray, chance: random.Random) -> None:
    damaged[_place(damaged, chance, 1)] ^= 1 << chance.randrange(8)


def _repeat(damaged: bytearray, chance: random.Random) -> None:
    size = chance.randint(1, min(256, len(damaged) // 2))
    source, target = _place(damaged, chance, size), _place(damaged, chance, size)
    damaged[target : target + size] = damaged[source : source + size]


def _cut(damaged: bytearray, chance: random.Random) -> None:
    if chance.random() < 0.2:
        del damaged[chance.randint(16, len(damaged)) :]
