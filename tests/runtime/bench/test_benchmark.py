"""A benchmark reports every figure for this machine, and its temperature if it has a sensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetl.errors import BundleError, EngineError, OptionError
from edgetl.runtime import Learner
from edgetl.runtime.bench import bench
from edgetl.runtime.bench.cold_start import start_classifier, start_interpreter
from edgetl.runtime.system import architecture, cores, describe_machine, temperature, throttling
from tests.models import colour_frame


def test_every_figure_is_there_and_plausible(tiny_bundle: Path) -> None:
    measured = bench(tiny_bundle, seconds=0.3, threads=1)
    assert (measured.bundle, measured.model, measured.quantize, measured.threads) == ("colours", "tiny", "int8", 1)
    assert (measured.accelerator, measured.note) == ("cpu", "")
    for timing in (measured.frame_ms, measured.jpeg_ms):
        assert 0 < timing.p50 <= timing.p95 <= timing.p99
        assert timing.runs >= 1
    assert measured.frame_ms.p50 < measured.jpeg_ms.p50
    assert measured.images_per_second > 1
    assert measured.startup_ms > max(0, measured.startup_above_bare_ms)  # on a busy machine either may come first
    assert measured.peak_bytes > measured.peak_above_bare_bytes
    assert measured.architecture == architecture()
    assert str(cores()) in measured.machine == describe_machine()
    assert json.loads(json.dumps(measured.to_dict()))["frame_ms"]["runs"] == measured.frame_ms.runs


def test_what_was_taught_is_measured_with_it(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path / "state") as learner:
        learner.teach(colour_frame("red", 1), "scarlet")
    assert bench(teachable, seconds=0.1, threads=1, state=tmp_path / "state").frame_ms.runs >= 1


def test_what_cannot_be_measured_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="invalid seconds 0"):
        bench(tiny_bundle, seconds=0)
    with pytest.raises(BundleError, match="no bundle at"):
        bench(tmp_path / "none.edgetl")
    with pytest.raises(EngineError, match=r"a fresh process could not predict: .*no bundle at"):
        start_classifier(tmp_path / "none.edgetl", threads=1)


def test_the_bare_interpreter_is_not_edgetl(tiny_model: bytes, tiny_bundle: Path) -> None:
    bare, ours = start_interpreter(tiny_model, 1), start_classifier(tiny_bundle, 1)
    assert 0 < bare.peak_bytes < ours.peak_bytes


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The files of a Raspberry Pi that is 61 degrees hot, and was throttled before."""
    for number, text in enumerate(["48312\n", "61835\n", "none\n"]):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)
    firmware = tmp_path / "sys/devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("60002\n")
    return tmp_path


def test_temperature_and_throttling_are_read(board: Path) -> None:
    assert temperature(board) == 61.835
    assert throttling(board) == ("frequency capped", "frequency capped since boot", "throttled since boot")


def test_temperature_and_throttling_are_none_on_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert temperature(tmp_path) is None
    assert throttling(tmp_path) is None


def test_throttling_comes_from_the_firmware_if_the_kernel_has_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "vcgencmd"
    command.write_text("#!/bin/sh\necho throttled=0x5\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert throttling(tmp_path) == ("under-voltage", "throttled")
