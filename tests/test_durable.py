"""A file is replaced as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from edgetl.durable import make_folder, replace_file, replacing
from edgetl.errors import StorageError


def test_a_file_is_replaced_with_the_given_mode(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    replace_file(path, lambda file: file.write(b"new"), mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as beside:
        beside.write_bytes(b"new")
        assert beside.parent == tmp_path
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_an_error_in_the_block_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half"), replacing(path) as beside:
        _write_half(beside)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_message_gives_the_reason_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"/file: the disk is full; free some space or choose another folder$"):
        replace_file(tmp_path / "file", b"new")
    with pytest.raises(StorageError, match=r"/file: the disk is full; use another cache$"):
        replace_file(tmp_path / "file", b"new", remedy="use another cache")


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        make_folder(tmp_path / "file" / "folder")


def _write_half(path: Path) -> None:
    path.write_bytes(b"half")
    raise RuntimeError("half")
