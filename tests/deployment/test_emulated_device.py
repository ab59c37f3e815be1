"""A bundle goes to a 64-bit Raspberry Pi fresh from its first start, and back: its own Python, all of it by SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetl.bundle import open_bundle, write_bundle
from edgetl.bundle.signing import make_key, read_private_key, sign
from edgetl.deployment import Transport, connect, deploy, pull, teach
from edgetl.deployment.provisioning import diagnose, probe_machine
from edgetl.deployment.transport import SshTransport
from edgetl.errors import DeviceError
from tests.deployment.preparing import prepare_or_skip
from tests.emulation.device import Device
from tests.runtime.device.installing import Releases, digest_of
from tests.runtime.device.test_installation import flipped_and_digested, with_other_normalisation, with_swapped_labels
from tests.runtime.learning.states import frame, jpeg

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def board(device: Device) -> Device:
    """The device after its first contact with this edgetl; a visible skip where its wheels cannot be had."""
    with connect("device", ssh_config=device.config) as opened:
        assert isinstance(opened, SshTransport)
        found = diagnose(opened)
        assert (found.is_usable, found.device) == (True, None)
        done = prepare_or_skip(opened)
        assert done.changed
        assert probe_machine(opened).environment == done.environment
        assert not opened.is_bare
    return device


@pytest.fixture
def transport(board: Device, request: pytest.FixtureRequest) -> Iterator[Transport]:
    """The way to a root of the test's own on the device."""
    with connect("device", root=f"/home/pi/{request.node.name[:60]}", ssh_config=board.config) as opened:
        yield opened


def teach_there(board: Device, transport: Transport, label: str, count: int) -> None:
    """Teaches the bundle that runs generated pictures, by the command line of the device."""
    folder = board.root / "tmp" / label
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed}.jpg").write_bytes(jpeg(frame("yellow", seed)))
    bundle = transport.call("status")["bundle"]
    done = board.ssh(f".local/share/edgetl/python/bin/edgetl teach {bundle} {label} /tmp/{label} --thumbnails --json")
    assert done.returncode == 0, done.stderr


def test_a_bundle_is_proven_taught_updated_rolled_back_and_pulled_there(
    board: Device, transport: Transport, releases: Releases, tmp_path: Path
) -> None:
    first = deploy(releases.first, transport)
    assert first.installed.replay.canaries == 3
    assert transport.call("status")["machine"]["architecture"] == "aarch64"
    teach_there(board, transport, "yellow", 3)
    second = deploy(releases.second, transport)
    assert second.installed.carried == 3
    assert second.sent_bytes < 0.5 * second.bundle_bytes
    other = deploy(releases.other_backbone, transport)
    assert (other.installed.carried, other.installed.not_carried) == (3, 0)
    (tmp_path / "grey.jpg").write_bytes(jpeg(frame("grey")))
    assert "grey" in teach(transport, "grey", [tmp_path / "grey.jpg"], thumbnails=True).labels
    back = transport.call("rollback")
    assert (back["digest"], back["carried"]) == (digest_of(releases.second), 1)
    assert pull(transport, tmp_path / "pulled").pictures == 4


def test_what_fails_its_canaries_there_does_not_run(transport: Transport, releases: Releases, tmp_path: Path) -> None:
    deploy(releases.first, transport)
    for plant in (with_swapped_labels, with_other_normalisation, flipped_and_digested):
        with pytest.raises(DeviceError, match="device: 'colours' was changed"):
            deploy(plant(releases.second, tmp_path / "faulty.edgetl"), transport)
    assert transport.call("status")["running"]["digest"] == digest_of(releases.first)


def test_it_takes_what_a_trusted_key_has_signed(transport: Transport, releases: Releases, tmp_path: Path) -> None:
    make_key(tmp_path / "release.key")
    transport.call("trust", transport.send(tmp_path / "release.pub", transport.call("status")["root"]))
    with pytest.raises(DeviceError, match="device: 'colours' is not signed"):
        deploy(releases.first, transport)
    signed = sign(open_bundle(releases.first), read_private_key(tmp_path / "release.key"), 1)
    assert deploy(write_bundle(tmp_path / "signed.edgetl", signed), transport).installed.changed
