"""Targets: every shipped board reads, and a wrong file is refused with the line to mend."""

from __future__ import annotations

import pytest

from edgetl.errors import OptionError, UnknownNameError
from edgetl.targets import list_targets, load_target

SHIPPED = {"rpi-zero2w", "rpi3", "rpi4", "rpi5", "coral", "coral-dev-board", "generic"}


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_TARGETS", str(tmp_path))
    return tmp_path


def test_the_boards_we_promise_are_there():
    assert {target.name for target in list_targets()} >= SHIPPED


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.name)
def test_every_target_keeps_the_contract(target):
    assert target.threads >= 1
    assert target.memory_bytes > 0
    assert "int8" in target.quantize
    assert target.source
    for reference in target.reference_latencies:
        assert reference.source
        assert reference.latency_ms > 0
        assert target.estimate_latency(reference.macs, reference.quantize) is not None or target.edgetpu


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown target 'corral' \(did you mean 'coral'\?\)"):
        load_target("corral")


def test_an_estimate_scales_with_the_work_and_names_its_source():
    rpi4 = load_target("rpi4")
    half = rpi4.estimate_latency(150_000_000)
    assert half is not None
    assert half.latency_ms == pytest.approx(17.0 / 2)
    assert "XNNPACK" in half.reference.source


def test_nothing_is_estimated_where_nothing_was_published():
    assert load_target("generic").estimate_latency(300_000_000) is None


def test_a_board_of_ones_own_is_one_file(own_folder):
    (own_folder / "shed.toml").write_text(
        'title = "Shed"\narchitecture = "aarch64"\ninterpreter = "any"\nthreads = 2\nmemory_bytes = 1000\n'
    )
    assert load_target("shed").title == "Shed"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('colour = "red"', "unknown key 'colour'"),
        ('threads = "four"', "'threads' must be int"),
        ("threads = true", "'threads' must be int"),
        ("[[reference_latencies]]\nmodel = 1", "'model' must be str"),
        ("title = ", "is not a target file"),
        ("", "missing"),
    ],
)
def test_a_wrong_file_is_refused(own_folder, line, complaint):
    (own_folder / "wrong.toml").write_text(line)
    with pytest.raises(OptionError, match=complaint):
        load_target("wrong")
