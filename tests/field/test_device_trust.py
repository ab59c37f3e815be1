"""A device that trusts keys stays closed, keeps what runs, and does not depend on its clock."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgetl.bundle import open_bundle, write_bundle
from edgetl.bundle.signing import make_key, read_private_key, sign
from edgetl.errors import BundleError, CanaryError, EdgetlError, InstallError, KeyFileError, SignatureError
from edgetl.runtime.device.ages import UnchangedFor
from edgetl.runtime.device.health import check_running
from edgetl.runtime.device.installation import install, rollback
from edgetl.runtime.device.inventory import DamagedBundle, take_inventory
from edgetl.runtime.device.settings import read_settings, write_settings
from edgetl.runtime.device.slots import INCOMING_SECONDS, Slots
from tests.runtime.device.installing import Releases, answer_of, digest_of, on_device, repacked

Sign = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def signed(root: Path, tmp_path: Path) -> Sign:
    """Signs a bundle with a key, which the device trusts from the start if it is the first one."""

    def sign_as(bundle: Path, sequence: int, key: str = "first") -> Path:
        path = tmp_path / f"{bundle.stem}-{key}-{sequence}.edgetl"
        return write_bundle(path, sign(open_bundle(bundle), read_private_key(tmp_path / f"{key}.key"), sequence))

    make_key(tmp_path / "first.key")
    make_key(tmp_path / "second.key")
    answer_of(root, "trust", tmp_path / "first.pub")
    return sign_as


def damage(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 0xFF
    bundle.write_bytes(content)


def running(root: Path) -> str:
    current = Slots(root).current
    assert current is not None
    return current.digest


class TestSignaturesRequired:
    @pytest.mark.parametrize("obstacle", ["a file", "a loop", "a dangling link"])
    def test_a_folder_of_keys_that_cannot_be_read_lets_nothing_in(
        self, obstacle: str, releases: Releases, root: Path
    ) -> None:
        install(releases.first, root)
        keys = root / "keys"
        if obstacle == "a file":
            keys.write_text("")
        else:
            keys.symlink_to("keys" if obstacle == "a loop" else "nowhere")
        with pytest.raises(KeyFileError, match="cannot read the trusted keys"):
            install(releases.second, root)
        with pytest.raises(KeyFileError, match="cannot read the trusted keys"):
            take_inventory(root)
        assert running(root) == digest_of(releases.first)

    def test_removing_the_folder_of_keys_lets_nothing_in(self, releases: Releases, root: Path, signed: Sign) -> None:
        for path in (root / "keys").iterdir():
            path.unlink()
        (root / "keys").rmdir()
        with pytest.raises(SignatureError, match="requires signatures and trusts no key"):
            install(releases.first, root)

    def test_a_device_of_an_earlier_version_with_keys_counts_as_requiring_them(
        self, releases: Releases, root: Path, signed: Sign
    ) -> None:
        (root / "settings.json").write_text(json.dumps({"target": None}))
        with pytest.raises(SignatureError):
            install(releases.first, root)
        (identity,) = answer_of(root, "trust")["trusted_keys"]
        answer_of(root, "trust", "--remove", identity)
        assert read_settings(root).require_signatures
        with pytest.raises(SignatureError):
            install(releases.first, root)

    def test_the_requirement_cannot_end_while_keys_are_trusted(self, root: Path, signed: Sign) -> None:
        done = on_device(root, "configure", "--require-signatures", "no")
        assert done.returncode == 2
        assert "remove them first" in done.stderr

    def test_a_rollback_to_an_unsigned_bundle_is_refused(self, releases: Releases, root: Path, tmp_path: Path) -> None:
        install(releases.first, root)
        install(releases.second, root)
        make_key(tmp_path / "late.key")
        answer_of(root, "trust", tmp_path / "late.pub")
        with pytest.raises(SignatureError, match="is not signed"):
            rollback(root)
        assert running(root) == digest_of(releases.second)

    def test_the_automatic_return_to_an_unsigned_bundle_is_refused(
        self, releases: Releases, root: Path, tmp_path: Path
    ) -> None:
        install(releases.first, root)
        make_key(tmp_path / "late.key")
        answer_of(root, "trust", tmp_path / "late.pub")
        second = sign(open_bundle(releases.second), read_private_key(tmp_path / "late.key"), 1)
        write_settings(root, replace(read_settings(root), after_switch="false"))
        with pytest.raises(InstallError, match=r"keeps this bundle, because the previous one cannot run: .*not signed"):
            install(write_bundle(tmp_path / "second.edgetl", second), root)
        assert running(root) == digest_of(releases.second)


class TestDowngrade:
    def test_the_number_outlives_the_key_that_reached_it(
        self, releases: Releases, root: Path, signed: Sign, tmp_path: Path
    ) -> None:
        install(signed(releases.first, 10), root)
        (identity,) = answer_of(root, "trust")["trusted_keys"]
        answer_of(root, "trust", tmp_path / "second.pub")
        answer_of(root, "trust", "--remove", identity)
        with pytest.raises(InstallError, match="signed as number 9, and number 10 runs here or has run here"):
            install(signed(releases.second, 9, "second"), root)
        install(signed(releases.second, 11, "second"), root)

    def test_it_outlives_a_removal_on_a_device_of_an_earlier_version(
        self, releases: Releases, root: Path, signed: Sign, tmp_path: Path
    ) -> None:
        install(signed(releases.first, 10), root)
        (root / "sequences.json").unlink()
        (identity,) = answer_of(root, "trust")["trusted_keys"]
        answer_of(root, "trust", tmp_path / "second.pub", "--remove", identity)
        with pytest.raises(InstallError, match="number 10"):
            install(signed(releases.second, 9, "second"), root)

    def test_it_outlives_damage_to_the_running_bundle(self, releases: Releases, root: Path, signed: Sign) -> None:
        install(signed(releases.first, 10), root)
        damage(Slots(root).running)
        with pytest.raises(InstallError, match="number 10"):
            install(signed(releases.second, 9), root)

    def test_it_outlives_a_rollback(self, releases: Releases, root: Path, signed: Sign) -> None:
        install(signed(releases.first, 1), root)
        install(signed(releases.second, 3), root)
        rollback(root)
        with pytest.raises(InstallError, match="number 3"):
            install(signed(releases.third, 2), root)
        assert not install(signed(releases.first, 1), root).changed  # what runs can be deployed again

    def test_a_bundle_signed_under_a_clock_in_2099_is_left_by_one_allowed_downgrade(
        self, releases: Releases, root: Path, signed: Sign
    ) -> None:
        install(signed(releases.first, 4_070_908_800), root)
        install(signed(releases.second, 1_800_000_000), root, allow_downgrade=True)
        install(signed(releases.third, 1_800_000_001), root)

    def test_a_damaged_number_lets_nothing_older_in(self, releases: Releases, root: Path, signed: Sign) -> None:
        install(signed(releases.first, 10), root)
        (root / "sequences.json").write_text("{")
        with pytest.raises(InstallError, match="cannot read the sequence number"):
            install(signed(releases.second, 11), root)
        install(signed(releases.second, 11), root, allow_downgrade=True)
        install(signed(releases.third, 12), root)


class TestReturnToADamagedSlot:
    def test_a_rollback_keeps_what_runs(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        install(releases.second, root)
        previous = Slots(root).previous
        assert previous is not None
        damage(previous.bundle)
        with pytest.raises(BundleError):
            rollback(root)
        assert running(root) == digest_of(releases.second)

    def test_a_rollback_to_a_slot_with_another_bundle_keeps_what_runs(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        install(releases.second, root)
        previous = Slots(root).previous
        assert previous is not None
        previous.bundle.write_bytes(releases.third.read_bytes())
        with pytest.raises(BundleError, match="contains another bundle"):
            rollback(root)
        assert running(root) == digest_of(releases.second)

    def test_a_failed_probation_keeps_what_runs(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        write_settings(root, replace(read_settings(root), health_check="true", probation_seconds=0.1))
        install(releases.second, root)
        write_settings(root, replace(read_settings(root), health_check="false"))
        (root / "probation.json").write_text(
            json.dumps({"slot": running(root), "boot": "", "since": 0.0, "seconds": 9999.0})
        )
        previous = Slots(root).previous
        assert previous is not None
        damage(previous.bundle)
        with pytest.raises(InstallError, match="keeps this bundle, because the previous one cannot run"):
            check_running(Slots(root))
        assert running(root) == digest_of(releases.second)


class TestStatus:
    def test_a_slot_with_another_whole_bundle_is_damaged(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        Slots(root).running.write_bytes(releases.second.read_bytes())
        found = take_inventory(root).running
        assert isinstance(found, DamagedBundle)
        assert digest_of(releases.second) in found.fault

    def test_verification_notices_an_unsigned_bundle(self, releases: Releases, root: Path, tmp_path: Path) -> None:
        install(releases.first, root)
        make_key(tmp_path / "late.key")
        answer_of(root, "trust", tmp_path / "late.pub")
        assert "fault" not in answer_of(root, "status")["running"]
        assert "is not signed" in answer_of(root, "status", "--verify")["running"]["fault"]


class TestTolerance:
    def test_a_bundle_cannot_widen_it(self, releases: Releases, root: Path, tmp_path: Path) -> None:
        document = json.loads(open_bundle(releases.first).read("canaries.json"))
        document["tolerance"] = {"cosine": -1.0, "probability": 1.0}
        for expected in document["expected"]:
            expected["embedding"] = [-value for value in expected["embedding"]]
        lenient = repacked(releases.first, tmp_path / "l.edgetl", {"canaries.json": json.dumps(document).encode()})
        with pytest.raises(CanaryError, match=r"the limit is 0\.98"):
            install(lenient, root)


class TestClock:
    @pytest.fixture
    def upload(self, releases: Releases, root: Path) -> Path:
        path = root / "incoming" / "upload.edgetl"
        path.parent.mkdir(parents=True)
        path.write_bytes(releases.first.read_bytes())
        return path

    def test_an_upload_from_before_the_clock_jumped_is_installed(self, upload: Path, root: Path) -> None:
        os.utime(upload, (0, 0))
        assert install(upload, root).changed

    def test_an_upload_is_installed_however_old_it_is(
        self, upload: Path, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Slots(root).locked():
            pass
        start = time.monotonic()
        monkeypatch.setattr("edgetl.runtime.device.ages.time.monotonic", lambda: start + 2 * INCOMING_SECONDS)
        assert install(upload, root).changed
        with Slots(root).locked():
            pass
        assert not upload.exists()

    def test_age_counts_the_time_that_the_machine_was_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file, ages = tmp_path / "file", UnchangedFor(tmp_path / "ages.json")
        file.touch()
        now, boot = [1000.0], ["first"]
        monkeypatch.setattr("edgetl.runtime.device.ages.time.monotonic", lambda: now[0])
        monkeypatch.setattr("edgetl.runtime.device.ages.boot_id", lambda: boot[0])
        assert ages.older_than(50, [file]) == []
        now[0], boot[0] = 30.0, "second"
        assert ages.older_than(50, [file]) == []
        now[0] = 60.0
        assert ages.older_than(50, [file]) == [file]
        file.write_text("resumed")
        assert ages.older_than(50, [file]) == []

    def test_the_slots_keep_their_order_when_the_clock_goes_back(self, releases: Releases, root: Path) -> None:
        for number, bundle in enumerate((releases.first, releases.second, releases.third)):
            install(bundle, root)
            os.utime(Slots(root).of(digest_of(bundle)).folder, (10**9 - number, 10**9 - number))
        wanted = [digest_of(bundle) for bundle in (releases.third, releases.second, releases.first)]
        assert [slot.digest for slot in Slots(root).all()] == wanted


def test_every_refusal_is_one_line(releases: Releases, root: Path, signed: Sign) -> None:
    with pytest.raises(EdgetlError) as raised:
        install(releases.first, root)
    assert "\n" not in str(raised.value)
