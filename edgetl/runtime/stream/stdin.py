"""Reads a pipe: paths, one image file, or a stream of JPEGs as cameras send them."""

from __future__ import annotations

import os
import re
from io import BufferedReader
from typing import Iterator, Optional, Union

from edgetl.runtime.inference.picture_memory import usable_memory

PICTURE_LIMIT_BYTES = 512 * 1024 * 1024
"""An image from a pipe is cut off here, or at the memory that one may take, and then cannot be decoded."""

PATH_LIMIT_BYTES = 64 * 1024
"""A longer line is cut off here, and is then no path that exists; Linux allows 4096 bytes."""


def read_piped(pipe: BufferedReader) -> Iterator[Union[str, bytes]]:
    """Yields paths, one per line or separated by NUL, or the contents of image files, as they arrive.

    The first bytes decide which. A stream of JPEGs may begin with anything: with a multipart boundary, or within a
    picture. Each JPEG is yielded as soon as its last byte is there, however the stream is cut into chunks. A JPEG that
    is cut off is yielded as far as it goes, and the next one is found; what is between two of them is skipped.
    """
    window = _Window(pipe)
    while not _is_decided(window.data) and window.extend():
        pass
    head = bytes(window.data[:_PROBE_BYTES])
    if is_image(head) and not head.startswith(_JPEG):
        return _whole_file(window)
    return _jpegs(window) if _is_stream(bytes(window.data)) else _paths(window)


def is_image(head: bytes) -> bool:
    """Whether these are the first bytes (16 or more) of an image file that Pillow may know."""
    return (
        head.startswith((_JPEG, b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  \r\n"))
        or (head.startswith((b"GIF87a", b"GIF89a")) and len(head) > 12 and _is_binary(head[6:]))
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
        or (head.startswith(b"\0\0\0") and head[4:8] == b"ftyp" and head[8:12] not in _VIDEO_BRANDS)
        or (head[:2] in (b"P4", b"P5", b"P6") and head[2:3] in _SPACES and head[3:4] in _AFTER_NETPBM)
    )


_JPEG = b"\xff\xd8\xff"
_VIDEO_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1")
_SPACES = (b" ", b"\n", b"\t", b"\r")
_AFTER_NETPBM = tuple(bytes([byte]) for byte in b"0123456789#")
_MARKER = re.compile(rb"\xff[\x00\xc0-\xfe]")
"""What compressed data contains soon, and a path in almost no encoding."""
_PROBE_BYTES = 16
_TEXT_CONTROLS = b"\0\t\n\r"
_HEADERS = (b"--", b"HTTP/", b"content-", b"\r\n--", b"\n--")
"""What a multipart stream begins with, in lower case."""


class _Window:
    """The part of a pipe that was read and not yet used."""

    def __init__(self, pipe: BufferedReader) -> None:
        self._pipe = pipe
        self.data = bytearray()

    def extend(self) -> bool:
        """Adds what is there, waiting for one byte at least; False at the end of the pipe."""
        read = self._pipe.read1(64 * 1024)
        self.data += read
        return bool(read)

    def take(self, count: int) -> bytes:
        """Removes and returns the first bytes."""
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken


def _is_decided(data: bytearray) -> bool:
    """Whether enough is there to see what the pipe contains: a few bytes, or a short line of text."""
    if len(data) >= 4 * _PROBE_BYTES or data.startswith(_JPEG):
        return True
    if bytes(data[:_PROBE_BYTES].lower()).startswith(_HEADERS):
        return False
    has_line = (b"\n" in data or b"\0" in data) and not _MARKER.search(data)
    return (len(data) >= _PROBE_BYTES and is_image(bytes(data))) or (has_line and not _is_binary(bytes(data)))


def _is_binary(data: bytes) -> bool:
    return any(byte < 32 and byte not in _TEXT_CONTROLS for byte in data) or data[:1] == b"\0" or b"\0\0" in data


def _is_stream(data: bytes) -> bool:
    """Whether JPEGs follow: a JPEG begins, bytes that no text has come first, or headers as HTTP sends them."""
    if _JPEG in data or sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in data) >= 3:
        return True
    lines = data.lower().lstrip(b"\r\n").split(b"\n", 2)
    return lines[0].startswith((b"http/1", b"content-type:", b"content-length:")) or (
        lines[0].startswith(b"--") and len(lines) > 1 and lines[1].startswith((b"content-", b"x-", b"\r"))
    )


def _picture_limit() -> int:
    usable = usable_memory()
    return PICTURE_LIMIT_BYTES if usable is None else min(PICTURE_LIMIT_BYTES, usable // 2)


def _whole_file(window: _Window) -> Iterator[bytes]:
    limit = _picture_limit()
    while len(window.data) < limit and window.extend():
        pass
    yield window.take(limit)


def _paths(window: _Window) -> Iterator[str]:
    while window.data or window.extend():
        end = _line_end(window.data)
        if end is None and len(window.data) <= PATH_LIMIT_BYTES and window.extend():
            continue
        line = window.take(len(window.data) if end is None else end + 1)
        if end is None and len(line) > PATH_LIMIT_BYTES:
            _skip_line(window)
        name = line[:PATH_LIMIT_BYTES].rstrip(b"\r\n\0")
        if name:
            yield os.fsdecode(name)


def _line_end(data: bytearray) -> Optional[int]:
    return min((place for place in (data.find(b"\n"), data.find(b"\0")) if place >= 0), default=None)


def _skip_line(window: _Window) -> None:
    while window.data or window.extend():
        end = _line_end(window.data)
        window.take(len(window.data) if end is None else end + 1)
        if end is not None:
            return


_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_BARE = frozenset([0x01, *range(0xD0, 0xD8)])
"""Markers without a segment: TEM and RST (ITU-T T.81, table B.1)."""
_SEGMENTS = frozenset([*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE]) - {0xC8}
_WITH_ANY_CONTENT = frozenset([*range(0xE0, 0xF0), 0xFE])
"""APPn and COM: their content may be a JPEG, e.g. a thumbnail."""
_WITH_WHOLE_THUMBNAIL = (0xE0, 0xE1)
"""JFIF and EXIF data: a thumbnail must fit into one segment, unlike the previews of other segments."""


def _jpegs(window: _Window) -> Iterator[bytes]:
    limit = _picture_limit()
    while _find_start(window):
        yield window.take(_JpegWalk(window, limit).length())


def _find_start(window: _Window) -> bool:
    """Skips what is before the next JPEG; False if there is none."""
    while True:
        place = window.data.find(_JPEG)
        if place >= 0:
            window.take(place)
            return True
        window.take(max(0, len(window.data) - len(_JPEG) + 1))
        if not window.extend():
            return False


class _JpegWalk:
    """Walks over the segments of the JPEG at the beginning of a window, to find where it ends or breaks off."""

    def __init__(self, window: _Window, limit: int) -> None:
        self._window = window
        self._limit = limit
        self._place = 2
        self._is_in_scan = False

    def length(self) -> int:
        """The number of its bytes; of a JPEG that is cut off, those before the next one, as far as it has come."""
        while self._place < self._limit and self._has(2):
            data = self._window.data
            if data[self._place] != 0xFF:
                if not self._is_in_scan:
                    return self._broken_at(self._place)
                self._skip_data()
                continue
            kind = data[self._place + 1]
            if kind == _END:
                return self._place + 2
            if kind == 0xFF:
                self._place += 1
            elif kind in _BARE or (kind == 0 and self._is_in_scan):
                self._place += 2
            elif kind not in _SEGMENTS or kind == _START:
                return self._broken_at(self._place)
            else:
                broken = self._skip_segment(kind)
                if broken is not None:
                    return self._broken_at(broken)
        return min(len(self._window.data), self._limit) if self._place < self._limit else self._limit

    def _has(self, count: int) -> bool:
        """Whether so many bytes follow, reading what is needed."""
        while len(self._window.data) < self._place + count:
            if not self._window.extend():
                return False
        return True

    def _skip_data(self) -> None:
        """Goes on to the next marker of compressed data."""
        found = self._window.data.find(b"\xff", self._place)
        self._place = len(self._window.data) if found < 0 else found

    def _skip_segment(self, kind: int) -> Optional[int]:
        """Goes on behind a segment; returns where it begins if it cannot be one."""
        if not self._has(4):
            self._place = len(self._window.data)
            return None
        begin = self._place + 2
        length = int.from_bytes(self._window.data[begin : begin + 2], "big")
        end = begin + length
        self._place = end
        is_whole = self._has(2 if kind != _SCAN else 0)
        searched = end - 2 if kind in _WITH_ANY_CONTENT and not self._is_in_scan else begin
        follows = bytes(self._window.data[end : end + 2])
        if (
            length < 2
            or self._window.data.find(_JPEG, searched, end + 2) >= 0
            or (kind in _WITH_WHOLE_THUMBNAIL and not self._is_in_scan and self._has_open_thumbnail(begin, end))
            or (kind != _SCAN and is_whole and not _is_marker(follows))
            or (not is_whole and self._window.data.find(_JPEG, begin) >= 0)
        ):
            return begin
        self._is_in_scan = self._is_in_scan or kind == _SCAN
        return None

    def _has_open_thumbnail(self, begin: int, end: int) -> bool:
        """Whether a JPEG begins in a segment and does not end there: then it is the next one of the stream."""
        start = self._window.data.rfind(_JPEG, begin, end)
        return start >= 0 and self._window.data.find(bytes([0xFF, _END]), start, end) < 0

    def _broken_at(self, place: int) -> int:
        """Where the next JPEG begins behind `place`; it is waited for only until there is one."""
        while True:
            found = self._window.data.find(_JPEG, max(2, place))
            if found >= 0:
                return found
            if len(self._window.data) >= self._limit:
                return self._limit
            place = max(place, len(self._window.data) - 2)
            if not self._window.extend():
                return len(self._window.data)


def _is_marker(two: bytes) -> bool:
    """Whether two bytes can begin the next segment; more fill bytes 0xff may come first."""
    return two[0] == 0xFF and (two[1] in _SEGMENTS or two[1] in (_END, 0xFF)) and two[1] != _START
