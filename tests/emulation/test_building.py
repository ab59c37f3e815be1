"""What is emulated is made once, whole or not at all; where it cannot be made, one line says why."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.emulation import cache
from tests.emulation.cache import kept
from tests.emulation.debian import unpack
from tests.emulation.machines import ARM64, ARMHF, Machine
from tests.emulation.tools import UnavailableError, or_skip, tell


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")


def test_what_many_ask_for_at_once_is_made_once() -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: kept("thing", "recipe", make), range(8)))
    assert len(made) == len(folders) == 1
    assert kept("thing", "another recipe", make) not in folders


def test_what_was_made_by_half_is_never_seen() -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise UnavailableError("the link broke")

    with pytest.raises(UnavailableError):
        kept("thing", "recipe", fail)
    assert list(kept("thing", "recipe", Path.mkdir).iterdir()) == []


def test_a_tool_that_is_missing_or_fails_is_told_in_one_line() -> None:
    assert tell("echo", 1, "two") == "1 two\n"
    with pytest.raises(UnavailableError, match=r"^there is no qemu-of-nowhere on this machine$"):
        tell("qemu-of-nowhere")
    with pytest.raises(UnavailableError, match=r"^sh fails: no network$"):
        tell("sh", "-c", "echo trying >&2; echo no network >&2; exit 3")
    with pytest.raises(UnavailableError, match=r"^sh fails: E: the cause$"):
        tell("sh", "-c", "echo 'E: the cause' >&2; echo 'E: what follows' >&2; exit 1")


def test_a_machine_without_a_debian_archive_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with or_skip():
        tell("apt-get", "--version")
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "other"})
    with pytest.raises(UnavailableError, match="no Debian archive among this machine's apt sources"):
        unpack(tmp_path / "root", ["bash"], "arm64", "bookworm")
    assert list(tmp_path.iterdir()) == []


def test_a_skip_says_why() -> None:
    with pytest.raises(pytest.skip.Exception, match="no emulation here: there is no qemu"), or_skip():
        raise UnavailableError("there is no qemu")


@pytest.mark.parametrize("machine", [ARM64, ARMHF], ids=lambda machine: machine.name)
def test_wheels_are_sought_from_the_newest_c_library_down(machine: Machine) -> None:
    newest, *_, oldest = machine.platforms
    assert (newest, oldest) == (f"manylinux_2_36_{machine.name}", f"manylinux2014_{machine.name}")
