"""Hides what comes through a pipe: paths, an image file, or JPEG after JPEG as cameras send them; sources calls it."""

from __future__ import annotations

import os
from io import BufferedReader
from typing import Iterator, Union

PIPED_LIMIT_BYTES = 512 * 1024 * 1024
"""No image that comes through a pipe is read further; what is cut off cannot be decoded."""


def read_piped(pipe: BufferedReader) -> Iterator[Union[str, bytes]]:
    """Paths, one a line or parted by NUL, or the contents of image files: whatever comes, as it comes.

    What begins as an image file is one. JPEGs tell where they end, so that any number of them may follow each other.
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
"""After a mark: a byte of data that looks like a mark, and the markers of nothing more (ITU-T T.81, table B.1)."""


def _is_image(head: bytes) -> bool:
    """By the marks of PNG, GIF, TIFF, WebP, AVIF, HEIC and BMP, as no path begins."""
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
    """Each JPEG; what stands between two of them, such as the headers of a multipart stream, is passed over."""
    while _to_mark(pipe):
        if pipe.read(1) == _START:
            yield _rest_of_jpeg(pipe)


def _rest_of_jpeg(pipe: BufferedReader) -> bytes:
    """A JPEG whose first two bytes were read; no byte more is waited for than those up to its end."""
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
    """What comes up to the next mark, and that; nothing where the pipe has ended."""
    read = bytearray()
    waiting = pipe.peek(1)
    while waiting and not read.endswith(_MARK):
        place = waiting.find(_MARK)
        read += pipe.read(len(waiting) if place < 0 else place + 1)
        waiting = waiting if place >= 0 else pipe.peek(1)
    return bytes(read)
