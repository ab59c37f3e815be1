"""The verbs that reach a device call the functions of the same names, and print lines or JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetl.bundle import open_bundle
from edgetl.deployment import connect, teach
from edgetl.runtime.device.installation import install
from edgetl.runtime.device.slots import Slots
from tests.cli.test_command_line import edgetl
from tests.runtime.device.installing import Releases, digest_of, on_device, repacked
from tests.runtime.learning.states import frame, jpeg


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "config"


@pytest.fixture
def device(tmp_path: Path) -> str:
    return f"{tmp_path}/device"


def json_of(*arguments: object) -> dict:
    done = edgetl(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_lines_say_what_was_deployed_and_what_runs(releases: Releases, device: str) -> None:
    output = edgetl("deploy", releases.first, device).stdout.splitlines()
    assert output[0] == f"{device}: colours {digest_of(releases.first)[:12]} runs now: {device}/current/bundle.edgetl"
    assert "3 canaries answered as on the host" in output[1]
    assert output[2].startswith("sent 14 of 14 kB")
    assert "was already running" in edgetl("deploy", releases.first, device).stdout
    edgetl("deploy", releases.second, device)
    assert digest_of(releases.first)[:12] in edgetl("devices", device).stdout
    assert edgetl("rollback", device).stdout.startswith(f"{device}: back to {digest_of(releases.first)[:12]}")


def test_deploy_rollback_and_devices_print_json(releases: Releases, device: str) -> None:
    assert json_of("deploy", releases.first, device)["installed"]["changed"]
    assert json_of("deploy", releases.second, device)["installed"]["previous"] == digest_of(releases.first)
    assert json_of("rollback", device)["digest"] == digest_of(releases.first)
    (inventory,) = json_of("devices", device)
    assert inventory["running"]["digest"] == digest_of(releases.first)


def test_a_device_that_does_not_answer_does_not_stop_the_others(releases: Releases, device: str) -> None:
    edgetl("deploy", releases.first, device)
    done = edgetl("devices", "no-such-host.invalid", device, "--json")
    assert done.returncode == 1
    missing, found = json.loads(done.stdout)
    assert "cannot reach no-such-host.invalid" in missing["fault"]
    assert found["running"]["name"] == "colours"


def test_a_device_that_trusts_a_key_accepts_only_signed_bundles(
    releases: Releases, device: str, config: Path, tmp_path: Path
) -> None:
    made = json_of("keys", "new", "release")
    assert made["private"] == str(config / "edgetl/keys/release.key")
    assert [key["key"] for key in json_of("keys", "list")] == [made["key"]]
    assert json_of("keys", "trust", "release", device)["trusted_keys"] == [made["key"]]
    bundle = tmp_path / "bundle.edgetl"
    bundle.write_bytes(releases.first.read_bytes())
    refused = edgetl("deploy", bundle, device)
    assert refused.returncode == 2
    assert "is not signed; sign it" in refused.stderr
    assert json_of("sign", bundle, "--key", "release", "--sequence", "5")["sequence"] == 5
    assert json_of("deploy", bundle, device)["installed"]["digest"] == digest_of(releases.first)
    bundle.write_bytes(releases.second.read_bytes())
    json_of("sign", bundle, "--key", made["private"], "--sequence", "4")
    older = edgetl("deploy", bundle, device)
    assert "was signed as number 4, and number 5 runs here" in older.stderr
    assert json_of("deploy", bundle, device, "--allow-downgrade")["installed"]["changed"]


def test_signing_without_a_number_counts_the_seconds(releases: Releases, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.edgetl"
    bundle.write_bytes(releases.first.read_bytes())
    json_of("keys", "new", "release")
    assert json_of("sign", bundle, "--key", "release")["sequence"] > 1_700_000_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["deploy", "nowhere.edgetl", "./device"], "there is no bundle at nowhere.edgetl"),
        (["deploy", "nowhere.edgetl", "pi@no-such-host.invalid"], "there is no bundle at nowhere.edgetl"),
        (["rollback", "./device"], "there is no previous bundle"),
        (["prepare", "./device"], "is a folder of this machine, which has edgetl"),
        (["pull", "./device", "-o", "."], "already exists"),
        (["rollback", "two words"], "invalid device 'two words'"),
        (["sign", "nowhere.edgetl", "--key", "none"], "edgetl keys new NAME"),
        (["trim", "nowhere.edgetl", "--status", "nowhere.json", "-o", "new"], "'nowhere.json': No such file"),
        (["keys", "new"], "edgetl keys new takes one name"),
        (["keys", "list", "name"], "takes no name"),
        (["keys", "trust", "name"], "edgetl keys trust takes a key and a device"),
        (["keys", "trust", "name", "./device"], "cannot read the key"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = edgetl(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_trimmed_bundle_can_be_installed_by_other_means(releases: Releases, device: str, tmp_path: Path) -> None:
    install(releases.first, device)
    (tmp_path / "status.json").write_text(on_device(Path(device), "status", "--json").stdout)
    trimmed = edgetl("trim", releases.second, "--status", tmp_path / "status.json", "-o", tmp_path / "to send")
    assert trimmed.returncode == 0, trimmed.stderr
    *_, command = trimmed.stdout.splitlines()
    assert command == "python -m edgetl.runtime install lacking.edgetl"
    lacking = tmp_path / "to send" / "lacking.edgetl"
    assert lacking.stat().st_size < 0.5 * releases.second.stat().st_size
    assert on_device(Path(device), "install", lacking).returncode == 0
    assert Slots(device).running.read_bytes() == releases.second.read_bytes()


def test_a_deployment_to_several_devices_names_the_slowest(releases: Releases, tmp_path: Path) -> None:
    where = [f"{tmp_path}/device {number}" for number in range(3)]
    done = edgetl("deploy", releases.first, *where)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 devices run it; the slowest was" in done.stdout
    assert len(json_of("deploy", releases.first, *where)) == 3
    failing = edgetl("deploy", releases.first, where[0], "no-such-host.invalid", "--json")
    assert failing.returncode == 1
    assert "cannot reach" in json.loads(failing.stdout)[1]["fault"]


def test_what_a_device_was_taught_is_pulled(releases: Releases, device: str, tmp_path: Path) -> None:
    edgetl("deploy", releases.first, device)
    picture = tmp_path / "yellow.jpg"
    picture.write_bytes(jpeg(frame("yellow")))
    json_of("teach", Slots(device).running, "yellow", picture)
    assert json_of("pull", device, "-o", tmp_path / "pulled.state")["pictures"] == 1
    bundle = tmp_path / "here.edgetl"
    bundle.write_bytes(releases.first.read_bytes())
    assert json_of("merge", bundle, tmp_path / "pulled.state")["labels"][-1] == "yellow"


def test_what_runs_is_what_was_deployed(releases: Releases, device: str) -> None:
    edgetl("deploy", releases.first, device)
    assert Slots(device).running.read_bytes() == releases.first.read_bytes()


def test_without_systemd_the_service_verbs_say_so(
    releases: Releases, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = edgetl("deploy", releases.first, device, "--service")
    assert done.returncode == 2
    assert f"{device}: there is no systemctl here, so no service" in done.stderr
    assert Slots(device).running.exists()
    assert "there is no journalctl here" in edgetl("logs", device).stderr
    assert json_of("service", device, "--remove")["removed"] is False
    contradictory = edgetl("service", device, "--remove", "--run-options", "x")
    assert "--run-options cannot be combined with --remove" in contradictory.stderr


def test_doctor_rejects_a_folder_of_this_machine(device: str) -> None:
    done = edgetl("doctor", f"{device}/")
    assert done.returncode == 2
    assert "is a folder of this machine, which has edgetl" in done.stderr
    assert "--root needs a device" in edgetl("doctor", "--root", "x").stderr


@pytest.fixture
def taught_device(releases: Releases, device: str, tmp_path: Path) -> str:
    """A device that was taught yellow with the two readable pictures of a folder; a third one is broken."""
    folder = tmp_path / "yellow ones"
    folder.mkdir()
    for seed in range(2):
        (folder / f"{seed}.jpg").write_bytes(jpeg(frame("yellow", seed)))
    (folder / "broken.jpg").write_bytes(b"none")
    install(releases.first, device)
    with connect(device) as transport:
        teach(transport, "yellow", sorted(folder.iterdir()))
    return device


def test_a_device_is_taught_and_keeps_none_of_the_pictures(taught_device: str, tmp_path: Path) -> None:
    done = edgetl("teach", taught_device, "yellow", tmp_path / "yellow ones")
    assert done.stdout.splitlines()[0] == "step 3: taught 'yellow' with 2 pictures"
    assert f"cannot read {tmp_path}/yellow ones/broken.jpg" in done.stderr
    history = json_of("history", Slots(taught_device).running)
    assert history[-1]["source"] == f"{tmp_path}/yellow ones/1.jpg"
    status = json_of("status", taught_device)
    assert status["learned"]["pictures"]["yellow"] == {"shipped": 0, "taught": 4}
    assert status["learned"]["state"].startswith(taught_device)
    refused = edgetl("teach", taught_device, "ye\nllow", tmp_path / "yellow ones")
    assert "expected 1 to 200 characters" in refused.stderr
    assert list(Path(taught_device, "incoming").iterdir()) == []


def test_status_describes_a_device_and_what_it_was_taught(taught_device: str) -> None:
    output = edgetl("status", taught_device).stdout.splitlines()
    assert output[0].startswith(f"{taught_device}: colours ")
    assert any(line.split() == ["yellow", "0", "2"] for line in output)
    assert any(line.startswith("drift: ") for line in output)


def test_the_guard_works_on_a_device_as_it_does_here(taught_device: str, tmp_path: Path) -> None:
    folder = tmp_path / "red ones"
    folder.mkdir()
    for seed in range(100, 140):
        (folder / f"{seed}.jpg").write_bytes(jpeg(frame("red", seed)))
    refused = edgetl("teach", taught_device, "scarlet", folder, "--guard", "1.0")
    assert refused.returncode == 1
    assert "refused: 40 pictures of 'scarlet' would cost the known classes too much; kept for later" in refused.stdout
    assert json_of("teach", taught_device, "scarlet")["accepted"]


def test_a_device_measures_itself_for_later_builds(
    releases: Releases, device: str, config: Path, tmp_path: Path
) -> None:
    shipped = open_bundle(releases.first)
    backbone = {**shipped.manifest.backbone, "macs": 1_000_000, "depthwise_macs": 100_000, "parameters": 10_000}
    install(repacked(releases.first, tmp_path / "counted.edgetl", backbone=backbone), device)
    done = edgetl("bench", device, "--seconds", "0.1", "--threads", "1", "--json")
    measured = json.loads(done.stdout)
    assert measured["where"] == device
    assert done.stderr.startswith("stored for generic")
    (stored,) = json.loads((config / "edgetl/profiles/generic.json").read_text())
    assert stored["latency_ms"] == measured["frame_ms"]["p50"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["status", "./device", "--state", "x"], "--state is for a bundle on this machine"),
        (["status", "gone.edgetl"], "there is no bundle at gone.edgetl"),
        (["status", "gone.edgetl", "--root", "x"], "--root needs a device"),
        (["teach", "gone.edgetl", "red", "--accept-new-host-key"], "--accept-new-host-key needs a device"),
        (["teach", "./device", "red"], "nothing is installed in"),
        (["teach", "./device", "red", "gone.jpg"], "no such source: 'gone.jpg'"),
        (["bench", "./device"], "nothing is installed in"),
        (["bench", "./device", "--import", "gone.json"], "does not exist"),
    ],
)
def test_options_of_a_bundle_and_of_a_device_are_distinct(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = edgetl(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
