"""Folders that contain more than finished image files."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from edgetl.runtime import iterate
from edgetl.runtime.stream import watch
from edgetl.runtime.stream.sources import Source


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for name in ("plain.jpg", "wrong.txt", "nothing", "a.dat", "upload.jpg.part", "backup.jpg~", "x.TMP"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("no image at all, but text\n")
    (tmp_path / "empty").touch()
    (tmp_path / "video.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(50))
    os.mkfifo(tmp_path / "a-pipe.jpg")
    os.mkfifo(tmp_path / "b-pipe")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "never")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c.jpg"))
        yield tmp_path


EXPECTED = ["a.dat", "nothing", "plain.jpg", "wrong.txt"]


def test_a_folder_gives_what_is_an_image_by_its_content(folder: Path) -> None:
    assert sorted(Path(source.name).name for source in iterate(str(folder))) == EXPECTED


def test_a_watched_folder_gives_the_same_and_a_file_once_it_has_its_name(folder: Path) -> None:
    found: list[str] = []

    def collect(sources: Iterator[Source], count: int) -> None:
        found.extend(Path(next(sources).name).name for _ in range(count))

    sources = watch(folder, poll_s=0.02, settle_s=0.1)
    started = time.monotonic()
    collect(sources, len(EXPECTED))
    assert sorted(found) == EXPECTED
    (folder / "upload.jpg.part").rename(folder / "upload.jpg")
    collect(sources, 1)
    assert found[-1] == "upload.jpg"
    assert time.monotonic() - started < 20
