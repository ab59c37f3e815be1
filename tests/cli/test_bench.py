"""`edgetl bench`: a table or JSON, and a profile that later builds estimate from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetl.bundle import open_bundle, pack
from edgetl.runtime.system import architecture
from tests.cli.test_command_line import edgetl


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgetl"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """One that says how much its backbone computes."""
    shipped = open_bundle(tiny_bundle)
    shipped.manifest.backbone.update(macs=1_000_000, depthwise_macs=100_000, parameters=10_000)
    entries = {name: shipped.read(name) for name in shipped.names}
    return pack(tmp_path / "colours.edgetl", shipped.manifest, entries)


def test_what_is_measured_is_stored_for_the_target(bundle: Path, config: Path) -> None:
    done = edgetl("bench", bundle, "--seconds", "0.2", "--threads", "1", "--store", "--json")
    measured = json.loads(done.stdout)
    assert done.stderr.startswith("stored for generic (Any Linux machine)")
    (stored,) = json.loads((config / "profiles" / "generic.json").read_text())
    assert stored["latency_ms"] == measured["frame_ms"]["p50"]
    targets = json.loads(edgetl("targets", "--json").stdout)
    assert next(entry for entry in targets if entry["name"] == "generic")["measured_latencies"] == [stored]


def test_people_get_a_table(bundle: Path, config: Path) -> None:
    shown = edgetl("bench", bundle, "--seconds", "0.2").stdout
    for row in ("frame to answer", "JPEG to answer", "throughput", "start to first answer", "peak memory"):
        assert row in shown
    assert not config.exists()


def test_what_a_board_printed_is_stored_on_the_workstation(bundle: Path, config: Path, tmp_path: Path) -> None:
    printed = json.loads(edgetl("bench", bundle, "--seconds", "0.2", "--json").stdout)
    printed |= {"architecture": "aarch64", "machine": "Raspberry Pi 4 Model B Rev 1.4, 4 cores"}
    (tmp_path / "pi.json").write_text(json.dumps(printed))
    done = edgetl("bench", "--import", tmp_path / "pi.json", "--target", "rpi4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stored for rpi4 (Raspberry Pi 4)")
    (stored,) = json.loads((config / "profiles" / "rpi4.json").read_text())
    assert stored["source"].startswith("measured on Raspberry Pi 4 Model B Rev 1.4, 4 cores, ")


@pytest.mark.skipif(architecture() == "aarch64", reason="here it is the right machine")
def test_another_machine_is_not_taken_for_the_board(bundle: Path, config: Path) -> None:
    done = edgetl("bench", bundle, "--seconds", "0.1", "--store", "--target", "rpi4")
    assert done.returncode == 2
    assert f"rpi4 is aarch64, but this was measured on {architecture()}" in done.stderr
    assert not config.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a BUNDLE or a device to measure, or --import FILE"),
        (["x.edgetl", "--import", "broken.json"], "give a BUNDLE or a device to measure, or --import FILE"),
        (["--import", "broken.json"], "broken.json is not JSON"),
        (["--import", "list.json"], "list.json contains no JSON object"),
        (["--import", "empty.json", "--target", "rpi4"], "invalid measurement: expected the output"),
        (["--import", "empty.json", "--target", "corral"], "did you mean 'coral'?"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    for name, text in (("broken.json", "{"), ("list.json", "[]"), ("empty.json", "{}")):
        (tmp_path / name).write_text(text)
    done = edgetl("bench", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
