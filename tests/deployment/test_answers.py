"""A device's JSON becomes dataclasses; nonsense becomes one line that names the device and quotes its answer."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgetl.deployment import connect, inventory, rollback, status
from edgetl.deployment.transport import Answer, Transport
from edgetl.errors import DeviceError
from edgetl.runtime.device import install, take_inventory
from tests.runtime.device.installing import Releases

ROLLED_BACK = {"digest": "d" * 64, "bundle": "/b", "carried": 0, "not_carried": 0, "fault": ""}


class AnsweringTransport(Transport):
    """A device that gives one answer to everything."""

    def __init__(self, output: str = "", code: int = 0, errors: str = "") -> None:
        super().__init__("board", None)
        self._answer = Answer(code, output, errors)

    def _run(self, arguments: Sequence[str], seconds: float = 60.0) -> Answer:
        return self._answer

    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        yield from ()
        return self._answer

    def _held(self, name: str) -> tuple[int, str]:
        return 0, ""

    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None: ...

    def _read(self, name: str) -> bytes:
        return b""

    def _remove(self, name: str) -> None: ...


def answering(**changes: Any) -> AnsweringTransport:
    return AnsweringTransport(json.dumps({**ROLLED_BACK, **changes}))


def test_an_inventory_gives_back_the_object_that_the_device_printed(releases: Releases, tmp_path: Path) -> None:
    install(releases.first, tmp_path)
    (tmp_path / "slots" / ("a" * 64)).mkdir()
    with connect(str(tmp_path)) as transport:
        found = json.loads(json.dumps(inventory(transport).to_dict()))
        learned = status(transport).learned
    expected = take_inventory(tmp_path).to_dict()
    assert {**found, "machine": {**found["machine"], "free_bytes": 0}} == {
        **expected,
        "machine": {**expected["machine"], "free_bytes": 0},
    }
    assert learned is not None
    assert set(learned.labels) == {"red", "green", "blue"}


def test_keys_of_a_later_version_are_ignored() -> None:
    assert rollback(answering(protocol=1, another=1)).digest == "d" * 64


@pytest.mark.parametrize("output", ["", "Traceback", "[]", "3", '{"digest":', "[" * 100_000])
def test_an_answer_that_is_no_json_object_is_one_line(output: str) -> None:
    with pytest.raises(DeviceError, match=r"^board gave an unreadable answer: '[^\n]{0,90}'; update edgetl there"):
        rollback(AnsweringTransport(output))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"carried": "3"}, "carried is str, expected int"),
        ({"carried": True}, "carried is bool, expected int"),
        ({"fault": None}, "fault is NoneType, expected str"),
    ],
)
def test_a_value_of_another_type_is_one_line(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeviceError, match=r"^board gave an unexpected answer .*: '{\"digest") as raised:
        rollback(answering(**changes))
    assert reason in str(raised.value)


def test_a_missing_key_is_one_line() -> None:
    with pytest.raises(DeviceError, match=r"^board gave an unexpected answer \(bundle is missing\)"):
        rollback(AnsweringTransport('{"digest": ""}'))


def test_a_nested_value_is_named_by_its_path(releases: Releases, tmp_path: Path) -> None:
    answer = take_inventory(tmp_path).to_dict()
    answer["slots"] = [{"digest": "d", "taught": False, "entries": {"model.tflite": 1}}]
    with pytest.raises(DeviceError, match=r"slots\[0\]\.entries\.model\.tflite is int, expected str"):
        inventory(AnsweringTransport(json.dumps(answer)))


def test_settings_that_are_out_of_range_are_one_line(tmp_path: Path) -> None:
    answer = take_inventory(tmp_path).to_dict()
    answer["settings"]["slots"] = 0
    with pytest.raises(DeviceError, match="board gave an unexpected answer"):
        inventory(AnsweringTransport(json.dumps(answer)))


@pytest.mark.parametrize(
    ("code", "errors"),
    [
        (64, "edgetl: unknown verb 'rollback'"),
        (2, "python -m edgetl.runtime: error: argument VERB: invalid choice: 'rollback'"),
        (2, "python -m edgetl.runtime: error: unrecognized arguments: --difference"),
    ],
    ids=["protocol 1", "an older verb", "an older option"],
)
def test_an_older_device_is_recognised(code: int, errors: str) -> None:
    with pytest.raises(DeviceError, match="board: edgetl is older there than here; update it: edgetl prepare HOST"):
        rollback(AnsweringTransport("", code, errors))


def test_a_device_with_a_later_protocol_is_recognised() -> None:
    with pytest.raises(DeviceError, match=r"board: edgetl is newer there than here \(protocol 2\); update edgetl here"):
        rollback(answering(protocol=2))


def test_an_error_of_the_device_is_repeated_though_it_mentions_an_invalid_choice() -> None:
    with pytest.raises(DeviceError, match=r"^board: invalid choice of a bundle$"):
        rollback(AnsweringTransport("", 2, "edgetl: invalid choice of a bundle"))
