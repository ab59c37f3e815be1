"""A TOML file of a user is read, or rejected in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgetl.errors import OptionError
from edgetl.toml_file import SIZE_LIMIT_BYTES, read_toml


def test_a_byte_order_mark_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "edgetl.toml"
    path.write_bytes(b"\xef\xbb\xbf[build]\ntarget = 'rpi4'\n")
    assert read_toml(path, "a project file") == {"build": {"target": "rpi4"}}


@pytest.mark.parametrize(
    "content",
    [b"target = ", b"\xff\xfe", b"x = " + b"[" * 100_000, b"#" * (SIZE_LIMIT_BYTES + 1)],
    ids=["half", "not UTF-8", "nested", "large"],
)
def test_what_is_not_toml_is_rejected_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "edgetl.toml"
    path.write_bytes(content)
    with pytest.raises(OptionError, match="is not a project file") as error:
        read_toml(path, "a project file")
    assert str(path) in str(error.value)


def test_a_fifo_is_rejected_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "edgetl.toml"
    os.mkfifo(path)
    with pytest.raises(OptionError, match="not a regular file"):
        read_toml(path, "a project file")


def test_a_missing_file_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "edgetl.toml", "a project file")
