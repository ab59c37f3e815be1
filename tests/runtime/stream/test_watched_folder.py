"""New images in a folder are yielded once and complete, whatever happens to the folder meanwhile."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from edgetl.errors import DataError
from edgetl.runtime import watch
from edgetl.runtime.stream.sources import Source

SETTLE = 0.5


def follow(folder: Path, only_new: bool = False) -> Iterator[Source]:
    return watch(folder, only_new, poll_s=0.02, settle_s=SETTLE)


def names(sources: Iterator[Source], count: int) -> list[str]:
    return [Path(source.name).name for source in islice(sources, count)]


def test_what_is_there_comes_first_and_then_what_is_added(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    sources = follow(tmp_path)
    assert names(sources, 2) == ["a.jpg", "b.png"]
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.png").write_bytes(b"x")
    assert names(sources, 1) == ["c.png"]


def test_with_only_new_the_existing_images_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"x")
    sources = follow(tmp_path, only_new=True)
    later = threading.Timer(0.1, (tmp_path / "new.png").write_bytes, [b"x"])
    later.start()
    assert names(sources, 1) == ["new.png"]


def test_a_file_that_is_still_being_written_waits(tmp_path: Path) -> None:
    def write_slowly() -> None:
        with (tmp_path / "slow.png").open("wb", buffering=0) as file:
            for _ in range(6):
                file.write(b"x")
                time.sleep(SETTLE / 2)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert Path(next(follow(tmp_path)).name).stat().st_size == 6
    writer.join()


def test_a_file_that_is_renamed_into_place_is_given_under_its_new_name(tmp_path: Path) -> None:
    sources = follow(tmp_path)
    (tmp_path / "upload.part").write_bytes(b"x")
    (tmp_path / "upload.part").rename(tmp_path / "upload.jpg")
    assert names(sources, 1) == ["upload.jpg"]


def test_a_replaced_file_is_given_again_and_an_untouched_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    sources = follow(tmp_path)
    assert names(sources, 2) == ["a.png", "b.png"]
    (tmp_path / "b.png").write_bytes(b"longer")
    (tmp_path / "c.png").write_bytes(b"x")
    assert sorted(names(sources, 2)) == ["b.png", "c.png"]


def test_a_deleted_file_is_new_when_it_returns(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    sources = follow(tmp_path)
    assert names(sources, 1) == ["a.png"]
    (tmp_path / "b.png").unlink()
    assert names(sources, 1) == ["b.png"], "it was complete when it was seen"
    (tmp_path / "c.png").write_bytes(b"x")
    assert names(sources, 1) == ["c.png"]
    (tmp_path / "b.png").write_bytes(b"x")
    assert names(sources, 1) == ["b.png"]


def test_a_folder_that_disappears_for_a_while_is_not_repeated(tmp_path: Path) -> None:
    folder, away = tmp_path / "share", tmp_path / "away"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"x")
    sources = follow(folder)
    assert names(sources, 1) == ["a.png"]
    folder.rename(away)

    def bring_back() -> None:
        shutil.copy(away / "a.png", away / "b.png")
        away.rename(folder)

    threading.Timer(0.2, bring_back).start()
    assert names(sources, 1) == ["b.png"]


def test_a_folder_that_does_not_exist_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot watch '.*none': no such folder"):
        watch(tmp_path / "none")
