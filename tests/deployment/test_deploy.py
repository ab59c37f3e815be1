"""Deploying to a local folder uses the same verbs as a remote device, in processes of their own."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgetl.deployment import Deployed, LocalTransport, connect, deploy, deploy_each, slowest, trim
from edgetl.errors import BundleError, DeviceError, OptionError
from edgetl.learners import Statistics, to_grid
from edgetl.runtime.device.slots import Slots
from tests.runtime.device.installing import Releases, digest_of, repacked, teach_running
from tests.runtime.learning.states import frame


def test_only_what_the_device_lacks_is_sent(releases: Releases, tmp_path: Path) -> None:
    with connect(f"{tmp_path}/device") as transport:
        first, second = deploy(releases.first, transport), deploy(releases.second, transport)
    assert first.sent_bytes == releases.first.stat().st_size
    assert second.sent_bytes < 0.5 * second.bundle_bytes
    assert Slots(tmp_path / "device").running.read_bytes() == releases.second.read_bytes()


def test_progress_is_reported(releases: Releases, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    with LocalTransport(tmp_path) as transport:
        deploy(releases.first, transport, progress=lambda *step: steps.append(step))
    size = releases.first.stat().st_size
    assert steps[:2] == [(f"{tmp_path}: sending", 0, size), (f"{tmp_path}: sending", size, size)]
    assert steps[-1] == (f"{tmp_path}: proving", 1, 1)


def test_what_was_taught_moves_to_the_new_bundle_unless_fresh(releases: Releases, tmp_path: Path) -> None:
    with LocalTransport(tmp_path) as transport:
        deploy(releases.first, transport)
        with teach_running(tmp_path) as learner:
            learner.teach(frame("yellow"), "yellow")
        assert deploy(releases.second, transport).installed.carried == 1
        assert deploy(releases.third, transport, fresh=True).installed.carried == 0


def test_an_invalid_bundle_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "none.edgetl").write_bytes(b"none")
    with LocalTransport(tmp_path / "device") as transport, pytest.raises(BundleError):
        deploy(tmp_path / "none.edgetl", transport)
    assert not (tmp_path / "device").exists()


def test_of_two_deploys_at_once_one_waits_for_its_turn(releases: Releases, tmp_path: Path) -> None:
    def deploy_one(bundle: Path) -> str:
        with LocalTransport(tmp_path / "device") as transport:
            try:
                return str(deploy(bundle, transport).installed.digest)
            except DeviceError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(deploy_one, [releases.first, releases.second]))
    current = Slots(tmp_path / "device").current
    assert current is not None
    assert current.digest in ended
    others = set(ended) - {current.digest}
    assert all("another install is running" in end or end in map(digest_of, vars(releases).values()) for end in others)


def test_an_upload_that_is_too_long_is_restarted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with LocalTransport(tmp_path) as transport:
        sent = Path(transport.send(tmp_path / "file", str(tmp_path)))
        sent.write_bytes(b"content and more")
        assert Path(transport.send(tmp_path / "file", str(tmp_path))).read_bytes() == b"content"


def with_statistics(bundle: Path, path: Path, pictures: int) -> Path:
    """The bundle with the statistics of so many drawn pictures, of a size as a real backbone's."""
    raw = np.random.default_rng(0).integers(-128, 128, (pictures, 300)).astype(np.int8)
    statistics = Statistics(300)
    statistics.add(to_grid(raw, -128), "red")
    return repacked(bundle, path, {"statistics.bin": statistics.to_bytes()})


@pytest.mark.parametrize("kept", [True, False], ids=["kept here", "not kept here"])
def test_of_new_statistics_only_the_difference_is_sent(kept: bool, releases: Releases, tmp_path: Path) -> None:
    first = with_statistics(releases.first, tmp_path / "first.edgetl", 500)
    second = with_statistics(releases.second, tmp_path / "second.edgetl", 505)
    with LocalTransport(tmp_path / "device") as transport:
        deploy(first, transport)
        if not kept:
            shutil.rmtree(tmp_path / "cache")
        done = deploy(second, transport)
    assert (done.sent_bytes < 0.2 * done.bundle_bytes) == kept
    assert Slots(tmp_path / "device").running.read_bytes() == second.read_bytes()


def test_a_bundle_is_sent_whole_if_requested(releases: Releases, tmp_path: Path) -> None:
    with LocalTransport(tmp_path) as transport:
        deploy(releases.first, transport)
        done = deploy(releases.first, transport, whole=True)
    assert done.sent_bytes == done.bundle_bytes
    assert not done.installed.changed


@pytest.mark.parametrize("status", ["", "[]", '{"slots": 1}', '{"slots": [{"entries": {"model.tflite": 1}}]}', b"\xff"])
def test_an_invalid_status_is_refused(status: str | bytes, releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="invalid status: expected the output of python"):
        trim(releases.first, status, tmp_path / "new")


def test_a_folder_that_is_not_empty_is_refused(releases: Releases, tmp_path: Path) -> None:
    trim(releases.first, '{"slots": []}', tmp_path / "carried")
    with pytest.raises(OptionError, match="is not empty"):
        trim(releases.first, '{"slots": []}', tmp_path / "carried")


def test_a_device_that_fails_does_not_stop_the_others(releases: Releases, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("no folder")
    where = [str(tmp_path / name) for name in ("one", "broken", "two")]

    def deploy_to(one: str) -> Deployed:
        with connect(one) as transport:
            return deploy(releases.first, transport)

    outcomes = deploy_each(where, deploy_to)
    assert [outcome.where for outcome in outcomes] == where
    assert [bool(outcome.fault) for outcome in outcomes] == [False, True, False]
    last = slowest(outcomes)
    assert last is not None
    assert last.seconds == max(outcome.deployed.seconds for outcome in outcomes if outcome.deployed)
    assert set(outcomes[1].to_dict()) == {"where", "fault"}
