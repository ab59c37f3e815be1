"""Images come from a file, a folder or standard input, one at a time."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetl.errors import DataError, ImageError
from edgetl.runtime import decode, iterate


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a/z.PNG", "a/y.jpeg", "c.webp", "notes.txt", ".hidden.jpg", ".git/x.jpg", "a/.thumb/t.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_gives_all_its_images_in_a_fixed_order(photos: Path) -> None:
    names = [str(Path(source.name).relative_to(photos)) for source in iterate(str(photos))]
    assert names == ["b.jpg", "c.webp", "a/y.jpeg", "a/z.PNG"]


def test_a_file_gives_itself_whatever_it_is_called(photos: Path) -> None:
    assert [source.name for source in iterate(str(photos / "notes.txt"))] == [str(photos / "notes.txt")]


def test_a_folder_without_images_says_what_it_was_searched_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images.*\.jpg"):
        iterate(str(tmp_path))


def test_a_source_that_is_not_there_says_what_may_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an image, a folder, or -"):
        iterate(str(tmp_path / "none"))


def pipe(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]


@contextlib.contextmanager
def open_pipe() -> Iterator[tuple[io.BufferedReader, io.FileIO]]:
    """The two ends of a pipe whose writer goes on."""
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer


@pytest.mark.parametrize("parting", [b"\n", b"\r\n", b"\n\n", b"\0"])
def test_standard_input_gives_paths(parting: bytes) -> None:
    names = ["a.jpg", "with space.jpg", "last é.jpg"]
    found = iterate("-", stdin=pipe(parting.join(map(os.fsencode, names))))
    assert [(source.name, source.image) for source in found] == [(name, Path(name)) for name in names]


def test_a_path_on_standard_input_is_taken_as_it_comes() -> None:
    with open_pipe() as (reader, writer):
        writer.write(b"a.jpg\n")
        assert next(iterate("-", stdin=reader)).name == "a.jpg"


def test_an_empty_standard_input_gives_nothing() -> None:
    assert list(iterate("-", stdin=pipe(b""))) == []


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG"])
def test_an_image_on_standard_input_is_one(format: str) -> None:
    content = encoded(format)
    (found,) = iterate("-", stdin=pipe(content))
    assert (found.name, found.image) == ("stdin:1", content)


def test_each_picture_of_a_camera_that_sends_jpegs_is_taken_as_soon_as_it_is_whole() -> None:
    photos = [encoded("JPEG", seed=seed, quality=quality) for seed, quality in enumerate((5, 50, 95))]
    photos.append(encoded("JPEG", seed=9, progressive=True, exif=with_thumbnail(photos[0])))
    with open_pipe() as (reader, writer):
        sources = None
        for number, photo in enumerate(photos, 1):
            writer.write(photo)
            sources = sources or iterate("-", stdin=reader)
            assert next(sources) == (f"stdin:{number}", photo)


def test_bytes_between_jpegs_are_skipped_and_a_truncated_jpeg_cannot_be_read() -> None:
    photo = encoded("JPEG")
    between = b"\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n"
    whole, also_whole, cut = iterate("-", stdin=pipe(photo + between + photo + between + photo[:-100]))
    assert (whole.image, also_whole.image) == (photo, photo)
    with pytest.raises(ImageError):
        decode(cut.image)


def encoded(format: str, seed: int = 0, **options: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def with_thumbnail(jpeg: bytes) -> bytes:
    """EXIF data that holds a whole JPEG, as those of cameras do."""
    return b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + jpeg
