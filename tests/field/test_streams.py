"""Streams that do not behave: pipes cut anywhere, cameras that fall behind, folders with more than files."""

from __future__ import annotations

import io
import os
import random
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.errors import ImageError
from edgetl.runtime import decode, iterate
from edgetl.runtime.stream import stdin as stdin_module

BOUNDARY = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 1234\r\n\r\n"


def jpeg(seed: int, **options: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)  # type: ignore[arg-type]
    return stream.getvalue()


def photo(seed: int) -> bytes:
    """A JPEG of one of four kinds; two of them have a thumbnail, a whole JPEG, in their EXIF data."""
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + jpeg(seed + 1000, quality=30)
    exif = thumbnail if seed % 2 else b""
    return jpeg(seed, quality=40 + seed % 50, progressive=seed % 4 > 1, exif=exif)


def piped(chunks: Iterable[bytes]) -> list[str | bytes]:
    """What is read from a real pipe into which another thread writes these chunks."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as writer:
            for chunk in chunks:
                writer.write(chunk)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as reader:
        found = list(stdin_module.read_piped(reader))
    thread.join()
    return found


def chunks_of(content: bytes, chooser: random.Random) -> Iterable[bytes]:
    while content:
        size = chooser.choice([1, 2, 3, 17, 500, 5000, 70_000])
        yield content[:size]
        content = content[size:]


@pytest.mark.parametrize(
    "first",
    [
        BOUNDARY,
        b"\r\n" + BOUNDARY,
        b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n" + BOUNDARY,
        b"Content-Type: image/jpeg\r\n\r\n",
        jpeg(77)[300:],
        bytes(range(256)) * 2,
    ],
)
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_a_stream_may_begin_with_headers_or_within_a_picture(first: bytes, step: int) -> None:
    photos = [photo(seed) for seed in range(4)]
    content = first + (b"\r\n" + BOUNDARY).join(photos) + b"\r\n--frame--\r\n"
    assert piped(content[at : at + step] for at in range(0, len(content), step)) == photos


@pytest.mark.parametrize("seed", range(60))
def test_no_intact_picture_is_lost_beside_truncated_ones_and_junk(seed: int) -> None:
    chooser = random.Random(seed)
    content, intact = b"", []
    for number in range(12):
        whole = photo(seed * 100 + number)
        if chooser.random() < 0.5:
            content += whole
            intact.append(whole)
        else:
            content += whole[: chooser.randrange(1, len(whole))]
        junk = [b"", BOUNDARY, b"\r\n" + BOUNDARY, chooser.randbytes(chooser.randrange(2000)).replace(b"\xff", b"\0")]
        content += chooser.choice(junk)
    last = photo(seed * 100 + 99)
    found = piped(chunks_of(BOUNDARY + content + last, chooser))
    missing = [whole for whole in [*intact, last] if whole not in found]
    assert missing == []
    assert [one for one in found if one in intact] == intact


def test_a_picture_is_there_as_soon_as_its_last_byte_although_one_before_was_cut() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb", buffering=0) as writer:
        whole, cut = photo(1), photo(2)[:-300]
        writer.write(cut + BOUNDARY + whole)
        found = stdin_module.read_piped(reader)
        assert decoded(next(found)) is None  # type: ignore[arg-type]
        assert next(found) == whole


def decoded(content: bytes) -> Image.Image | None:
    try:
        return decode(content)
    except ImageError:
        return None


def test_standard_input_without_a_newline_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    original = stdin_module._Window.extend

    def watched(window: stdin_module._Window) -> bool:
        nonlocal largest
        more = original(window)
        largest = max(largest, len(window.data))
        return more

    monkeypatch.setattr(stdin_module._Window, "extend", watched)
    endless, path = b"x" * 5_000_000, b"\nred.jpg\n"
    first, second = piped([endless, path])
    assert largest < 300_000
    assert second == "red.jpg"
    with pytest.raises(ImageError):
        decode(Path(str(first)))


def test_zeros_without_end_are_neither_paths_nor_memory() -> None:
    assert piped(bytes(100_000) for _ in range(50)) == []


@pytest.mark.parametrize("names", [["BM.jpg"], ["--a.jpg", "b.jpg"], ["GIF89a.gif"], ["RIFF"], ["P5 x.pgm", "a"]])
def test_paths_that_look_like_pictures_or_boundaries_are_paths(names: list[str]) -> None:
    for parting in (b"\n", b"\0", b"\r\n"):
        assert piped([parting.join(map(os.fsencode, names)) + parting]) == names


def test_the_source_names_each_picture_of_a_pipe_by_its_number() -> None:
    with io.BufferedReader(io.BytesIO(BOUNDARY + photo(1) + photo(2))) as pipe:  # type: ignore[arg-type]
        assert [source.name for source in iterate("-", stdin=pipe)] == ["stdin:1", "stdin:2"]
