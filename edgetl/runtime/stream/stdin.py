"""Reads a pipe: paths, one image file, or a sequence of JPEGs as cameras send them."""

from __future__ import annotations

import os
from io import BufferedReader
from typing import Iterator, Union

PIPED_LIMIT_BYTES = 512 * 1024 * 1024
"""An image from a pipe is cut off here, and then cannot be decoded."""


def read_piped(pipe: BufferedReader) -> Iterator[Union[str, bytes]]:
    """Yields paths, one per line or separated by NUL, or the contents of image files, as they arrive.

    The first bytes decide which. Because a JPEG marks its own end, any number of JPEGs may follow each other.
    """
    if pipe.peek(1)[:1] == _MARK:
        return _jpegs(pipe)
    head = pipe.readline(PIPED_LIMIT_BYTES)
    if _is_image(head):
        return iter([head + pipe.read(PIPED_LIMIT_BYTES - len(head))])
    return _paths(head, pipe)


_MARK = b"\xff"
_START, _END = b"\xd8", b"\xd9"
_WITHOUT_LENGTH = frozenset([0x00, 0x01, *range(0xD0, 0xD8)])
"""Bytes after 0xff without a segment: 0x00 for a stuffed byte of data, and bare markers (ITU-T T.81, table B.1)."""


def _is_image(head: bytes) -> bool:
    """Whether these are the first bytes of a PNG, GIF, TIFF, WebP, AVIF, HEIC or BMP file; no path begins so."""
    return (
        head.startswith((b"\x89PNG", b"II*\0", b"MM\0*"))
        or (head.startswith((b"GIF87a", b"GIF89a")) and b"\0" in head)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
        or (head.startswith(b"\0\0\0") and head[4:8] == b"ftyp")
    )


def _paths(first: bytes, pipe: BufferedReader) -> Iterator[str]:
    line = first
    while line:
        yield from (os.fsdecode(name) for name in line.rstrip(b"\r\n").split(b"\0") if name)
        line = pipe.readline()


def _jpegs(pipe: BufferedReader) -> Iterator[bytes]:
    """Yields each JPEG; skips what is between two of them, for example the headers of a multipart stream."""
    while _to_mark(pipe):
        if pipe.read(1) == _START:
            yield _rest_of_jpeg(pipe)


def _rest_of_jpeg(pipe: BufferedReader) -> bytes:
    """The JPEG whose first two bytes were read. Reads no byte after its end, which a live pipe would wait for."""
    taken = bytearray(_MARK + _START)
    while len(taken) < PIPED_LIMIT_BYTES:
        taken += _to_mark(pipe)
        kind = pipe.read(1)
        while kind == _MARK:
            kind = pipe.read(1)
        taken += kind
        if not kind or kind == _END:
            break
        if kind[0] not in _WITHOUT_LENGTH:
            length = pipe.read(2)
            taken += length + pipe.read(max(0, int.from_bytes(length, "big") - 2))
    return bytes(taken)


def _to_mark(pipe: BufferedReader) -> bytes:
    """The bytes up to and including the next 0xff; all of the rest without one."""
    read = bytearray()
    waiting = pipe.peek(1)
    while waiting and not read.endswith(_MARK):
        place = waiting.find(_MARK)
        read += pipe.read(len(waiting) if place < 0 else place + 1)
        waiting = waiting if place >= 0 else pipe.peek(1)
    return bytes(read)
