"""Images come from a file, a folder, or paths on standard input, one at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetl.errors import DataError
from edgetl.runtime import iterate


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


def test_standard_input_gives_a_path_a_line_as_they_come() -> None:
    read = []

    def lines() -> Iterator[str]:
        for line in ("a.jpg\n", "\n", "with space.jpg\r\n", "last.jpg"):
            read.append(line)
            yield line

    sources = iterate("-", stdin=lines())  # type: ignore[arg-type]
    assert next(sources).name == "a.jpg"
    assert len(read) == 1
    assert [source.name for source in sources] == ["with space.jpg", "last.jpg"]


def test_an_empty_standard_input_gives_nothing() -> None:
    assert list(iterate("-", stdin=io.StringIO(""))) == []
