"""A bundle becomes the running one only after it has proven itself on the device."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from edgetl.bundle import CANARIES, open_bundle, write_bundle
from edgetl.bundle.format import _read_bundle as read_bundle
from edgetl.bundle.signing import make_key, read_private_key, sign
from edgetl.errors import (
    CanaryError,
    InstallError,
    IntegrityError,
    KeyFileError,
    OptionError,
    SignatureError,
    StorageError,
)
from edgetl.runtime import Classifier
from edgetl.runtime.device.health import check_running, probation_seconds_left
from edgetl.runtime.device.installation import install, rollback
from edgetl.runtime.device.inventory import take_inventory
from edgetl.runtime.device.settings import Settings, read_settings, write_settings
from edgetl.runtime.device.slots import Slots
from tests.runtime.device.installing import (
    Releases,
    answer_of,
    digest_of,
    on_device,
    renormalised,
    repacked,
    teach_running,
)
from tests.runtime.learning.states import frame
from tests.runtime.test_device import REPOSITORY


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "device"


def running(root: Path) -> str:
    current = Slots(root).current
    assert current is not None
    assert open_bundle(Slots(root).running).digest == current.digest
    return current.digest


def configure(root: Path, **settings: Any) -> None:
    root.mkdir(exist_ok=True)
    write_settings(root, Settings(**settings))


class TestInstalling:
    def test_a_bundle_runs_once_it_is_installed(self, releases: Releases, root: Path) -> None:
        done = answer_of(root, "install", releases.first)
        assert done["digest"] == digest_of(releases.first) == running(root)
        assert (done["changed"], done["previous"], done["replay"]["canaries"]) == (True, None, 3)
        assert Classifier(done["bundle"]).predict(frame("red")).label == "red"

    def test_the_next_one_keeps_the_one_before(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        done = install(releases.second, root)
        assert done.previous == digest_of(releases.first)
        assert running(root) == digest_of(releases.second)

    def test_the_same_one_again_changes_nothing(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        install(releases.second, root)
        before = sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*") if path.parent != root)
        done = install(releases.second, root)
        assert (done.changed, done.previous) == (False, digest_of(releases.first))
        assert sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*") if path.parent != root) == before

    def test_a_file_that_leaves_out_what_the_device_has_is_enough(
        self, releases: Releases, root: Path, tmp_path: Path
    ) -> None:
        small = tmp_path / "small.edgetl"
        first, second = open_bundle(releases.first), open_bundle(releases.second)
        write_bundle(small, second, at_hand={entry["sha256"] for entry in first.manifest.entries.values()})
        with pytest.raises(IntegrityError, match="is missing"):
            install(small, root)
        install(releases.first, root)
        assert install(small, root).digest == second.digest
        assert Slots(root).running.read_bytes() == releases.second.read_bytes()

    def test_each_bundle_is_opened_once(
        self, releases: Releases, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the installing process; the canaries open the new bundle once more, in a process of their own."""
        opened = []
        monkeypatch.setattr(
            "edgetl.bundle.format._read_bundle",
            lambda path, *arguments: opened.append(path) or read_bundle(path, *arguments),
        )
        install(releases.first, root)
        assert opened == [releases.first]
        with teach_running(root) as learner:
            learner.teach(frame("yellow"), "yellow")
        small = tmp_path / "small.edgetl"
        first, second = open_bundle(releases.first), open_bundle(releases.second)
        write_bundle(small, second, at_hand={entry["sha256"] for entry in first.manifest.entries.values()})
        opened.clear()
        assert install(small, root).carried == 1
        assert opened == [small, Slots(root).of(first.digest).bundle]

    def test_old_bundles_are_pruned_but_never_the_previous_one(self, releases: Releases, root: Path) -> None:
        configure(root, slots=2)
        first, second, third = (digest_of(path) for path in (releases.first, releases.second, releases.third))
        install(releases.first, root)
        install(releases.second, root)
        assert install(releases.third, root).removed == (first,)
        assert {slot.digest for slot in Slots(root).all()} == {second, third}
        rollback(root)
        assert running(root) == second

    def test_a_damaged_slot_is_repaired(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        Slots(root).running.write_bytes(b"nothing")
        assert "fault" in answer_of(root, "status")["running"]
        install(releases.first, root)
        assert running(root) == digest_of(releases.first)

    def test_a_damaged_bundle_does_not_block_a_new_one(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        Slots(root).running.write_bytes(b"nothing")
        install(releases.second, root)
        assert running(root) == digest_of(releases.second)

    def test_leftovers_of_a_killed_install_are_removed(self, releases: Releases, root: Path) -> None:
        (root / "slots" / ".left").mkdir(parents=True)
        install(releases.first, root)
        assert [path.name for path in (root / "slots").iterdir()] == [digest_of(releases.first)]

    def test_abandoned_uploads_are_removed(
        self, releases: Releases, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        incoming, day, start = root / "incoming", 86400, time.monotonic()
        (incoming / "folder").mkdir(parents=True)
        for name in ("stale", "folder/of a rollout"):
            (incoming / name).write_bytes(b"part")
        for days in (0, 6, 8):
            monkeypatch.setattr("edgetl.runtime.device.ages.time.monotonic", lambda now=start + days * day: now)
            if days == 6:
                (incoming / "fresh").write_bytes(b"part")
            with Slots(root).locked():
                assert len(list(incoming.iterdir())) == {0: 2, 6: 3, 8: 3}[days] - 2 * (days == 8)
        assert [path.name for path in (root / "incoming").iterdir()] == ["fresh"]

    def test_other_pythons_install_with_what_a_device_has(
        self, device_python: str, releases: Releases, root: Path
    ) -> None:
        command = [device_python, "-m", "edgetl.runtime", "install", "--root", str(root)]
        for bundle in (releases.first, releases.second):
            done = subprocess.run([*command, str(bundle)], capture_output=True, text=True, cwd=REPOSITORY)
            assert done.returncode == 0, done.stderr
        assert running(root) == digest_of(releases.second)


class TestRollingBack:
    def test_it_brings_the_former_bundle_and_what_it_was_taught(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        with teach_running(root) as learner:
            learner.teach(frame("yellow"), "yellow")
            statistics = learner.statistics()
        install(releases.second, root)
        assert answer_of(root, "rollback")["digest"] == digest_of(releases.first) == running(root)
        with teach_running(root) as learner:
            assert learner.statistics() == statistics

    def test_there_must_be_one(self, releases: Releases, root: Path) -> None:
        for _ in range(2):
            with pytest.raises(InstallError, match="no previous bundle"):
                rollback(root)
            install(releases.first, root)

    def test_it_learns_what_was_taught_since(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        with teach_running(root) as learner:
            learner.teach(frame("grey"), "grey")
        install(releases.second, root)
        with teach_running(root) as learner:
            learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
        done = rollback(root)
        assert (done.carried, done.not_carried, done.fault) == (3, 0, "")
        with teach_running(root) as learner:
            assert learner.status().pictures["grey"]["taught"] == 1
            assert learner.classifier().predict(frame("yellow", 9)).label == "yellow"

    def test_another_backbone_needs_thumbnails_for_that(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        install(releases.other_backbone, root)
        for thumbnails, label in ((True, "yellow"), (False, "grey")):
            with teach_running(root, thumbnails=thumbnails) as learner:
                learner.teach(frame(label), label)
        done = rollback(root)
        assert (done.carried, done.not_carried) == (1, 1)

    def test_a_damaged_state_does_not_block_it(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        install(releases.second, root)
        with teach_running(root) as learner:
            learner.teach(frame("yellow"), "yellow")
        (root / "current/bundle.state/journal.sqlite").write_bytes(b"nothing")
        rollback(root)
        assert running(root) == digest_of(releases.first)

    def test_the_bundle_that_was_left_can_be_installed_again(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        install(releases.second, root)
        rollback(root)
        assert install(releases.second, root).previous == digest_of(releases.first)


class TestWhatWasTaught:
    def test_it_moves_along(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        with teach_running(root) as learner:
            learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
        done = install(releases.second, root)
        assert (done.carried, done.not_carried) == (3, 0)
        with teach_running(root) as learner:
            assert learner.labels == ("blue", "green", "red", "yellow")
            assert learner.classifier().predict(frame("yellow", 9)).label == "yellow"

    def test_it_is_learned_again_from_thumbnails_by_another_backbone(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        with teach_running(root, thumbnails=True) as learner:
            learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
        with teach_running(root) as learner:
            learner.teach(frame("grey"), "grey")
        done = install(releases.other_backbone, root)
        assert (done.carried, done.not_carried) == (3, 1)
        with teach_running(root) as learner:
            assert learner.classifier().predict(frame("yellow", 9)).label == "yellow"

    def test_it_counts_once_over_any_number_of_installs(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        with teach_running(root) as learner:
            learner.teach(frame("yellow"), "yellow")
        install(releases.second, root)
        assert install(releases.second, root).carried == 0
        assert install(releases.third, root).carried == 1
        rollback(root)
        install(releases.third, root)
        with teach_running(root) as learner:
            assert learner.status().pictures["yellow"]["taught"] == 1

    def test_it_may_be_left_behind(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        with teach_running(root) as learner:
            learner.teach(frame("yellow"), "yellow")
        assert answer_of(root, "install", releases.second, "--fresh")["carried"] == 0
        assert not (root / "current" / "bundle.state").exists()


def truncated(first: Path, path: Path) -> Path:
    path.write_bytes(first.read_bytes()[:-100])
    return path


def flipped(first: Path, path: Path) -> Path:
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def flipped_and_digested(first: Path, path: Path) -> Path:
    model = bytearray(open_bundle(first).read("model.tflite"))
    model[len(model) // 2] ^= 1
    return repacked(first, path, {"model.tflite": bytes(model)})


def with_swapped_labels(first: Path, path: Path) -> Path:
    blue, green, red = open_bundle(first).manifest.labels
    return repacked(first, path, labels=[green, blue, red])


def with_other_normalisation(first: Path, path: Path) -> Path:
    return repacked(first, path, {"model.tflite": renormalised(open_bundle(first).read("model.tflite"))})


def with_other_preprocessing(first: Path, path: Path) -> Path:
    return repacked(first, path, preprocess={**open_bundle(first).manifest.preprocess, "interpolation": "nearest"})


def for_another_target(first: Path, path: Path) -> Path:
    return repacked(first, path, target="coral")


def without_canaries(first: Path, path: Path) -> Path:
    return repacked(first, path, {CANARIES: None})


def with_no_model(first: Path, path: Path) -> Path:
    return repacked(first, path, {"model.tflite": b"none"})


FAULTS = [
    truncated,
    flipped,
    flipped_and_digested,
    with_swapped_labels,
    with_other_normalisation,
    with_other_preprocessing,
    for_another_target,
    without_canaries,
    with_no_model,
]


class TestRefusing:
    @pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
    def test_a_planted_fault_is_one_line_and_what_runs_goes_on(
        self, plant: Callable[[Path, Path], Path], releases: Releases, root: Path, tmp_path: Path
    ) -> None:
        configure(root, target="rpi4")
        install(releases.second, root)
        done = on_device(root, "install", plant(releases.first, tmp_path / "faulty.edgetl"), "--json")
        assert done.returncode == 2
        assert done.stderr.startswith("edgetl: ")
        assert len(done.stderr.splitlines()) == 1
        assert running(root) == digest_of(releases.second)
        assert [slot.digest for slot in Slots(root).all()] == [running(root)]

    def test_the_running_bundle_gives_the_target_that_a_new_one_must_have(
        self, releases: Releases, root: Path, tmp_path: Path
    ) -> None:
        install(repacked(releases.first, tmp_path / "rpi4.edgetl", target="rpi4"), root)
        coral = repacked(releases.second, tmp_path / "coral.edgetl", target="coral")
        with pytest.raises(InstallError, match="was built for coral, and this device is rpi4"):
            install(coral, root)
        install(releases.third, root)
        answer_of(root, "configure", "--target", "coral")
        assert install(coral, root).target == "coral"

    def test_a_model_that_crashes_the_interpreter_is_one_line(
        self, releases: Releases, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        crash = tmp_path / "crash"
        crash.mkdir()
        (crash / "sitecustomize.py").write_text("import os; os.kill(os.getpid(), 11)")
        monkeypatch.setenv("PYTHONPATH", str(crash))
        with pytest.raises(CanaryError, match=r"crashed the interpreter \(signal 11\)"):
            install(releases.first, root)

    def test_a_second_install_at_the_same_time_is_refused(self, releases: Releases, root: Path) -> None:
        with Slots(root).locked(), pytest.raises(InstallError, match="another install is running"):
            install(releases.first, root)

    def test_too_little_space_is_refused_before_anything_is_written(
        self, releases: Releases, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgetl.runtime.device.slots.RESERVE_BYTES", 1 << 60)
        with pytest.raises(StorageError, match="free some space"):
            install(releases.first, root)
        assert list((root / "slots").iterdir()) == []

    def test_a_full_disk_leaves_the_running_bundle(self, releases: Releases, tmp_path: Path) -> None:
        """On a real file system of 100 kB, mounted in a namespace of its own."""
        disk = tmp_path / "disk"
        disk.mkdir()
        script = (
            "import sys; from edgetl.runtime.device import slots; slots.RESERVE_BYTES = -1 << 40\n"
            "from edgetl.errors import StorageError; from edgetl.runtime.device.installation import install\n"
            "install(sys.argv[2], sys.argv[1])\n"
            "try: install(sys.argv[3], sys.argv[1])\n"
            "except StorageError as error: print(slots.Slots(sys.argv[1]).current.digest, error)"
        )
        size = releases.first.stat().st_size * 3 // 2
        mounted = f'mount -t tmpfs -o size={size} tmpfs "$0" && "$@"'
        mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted]
        if subprocess.run([*mount, str(disk), "true"], capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        command = [*mount, disk, sys.executable, "-c", script, disk, releases.first, releases.second]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        digest, _, message = done.stdout.partition(" ")
        assert digest == digest_of(releases.first)
        assert "the disk is full" in message

    def test_a_root_that_cannot_be_made_is_one_line(self, releases: Releases, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        done = on_device(tmp_path / "file" / "root", "install", releases.first)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


class TestHealth:
    def test_the_health_check_sees_the_new_bundle_before_it_runs(
        self, releases: Releases, root: Path, tmp_path: Path
    ) -> None:
        install(releases.first, root)
        configure(root, health_check=f"sh -c 'cp $EDGETL_BUNDLE {tmp_path}/seen; echo not well; exit 3'")
        with pytest.raises(InstallError, match="the health check ended with code 3: not well"):
            install(releases.second, root)
        assert (tmp_path / "seen").read_bytes() == releases.second.read_bytes()
        assert running(root) == digest_of(releases.first)
        assert len(Slots(root).all()) == 1

    def test_a_bundle_that_fails_on_probation_is_rolled_back(
        self, releases: Releases, root: Path, tmp_path: Path
    ) -> None:
        install(releases.first, root)
        failing_once_it_runs = f"sh -c 'case $EDGETL_BUNDLE in {root}/current/*) exit 1;; esac'"
        configure(root, health_check=failing_once_it_runs, probation_seconds=20)
        done = on_device(root, "install", releases.second)
        assert done.returncode == 2
        assert "the device went back to its previous bundle" in done.stderr
        assert running(root) == digest_of(releases.first)

    def test_a_later_failure_within_the_probation_goes_back_too(
        self, releases: Releases, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(releases.first, root)
        configure(root, health_check="true", probation_seconds=0.2)
        install(releases.second, root)
        configure(root, health_check="false", probation_seconds=0.2)
        with pytest.raises(InstallError, match=r"code 1: it printed nothing$"):
            check_running(Slots(root))
        assert running(root) == digest_of(releases.second)
        monkeypatch.setattr("edgetl.runtime.device.health.boot_id", lambda: "after a restart")
        assert probation_seconds_left(Slots(root)) == 0.2
        with pytest.raises(InstallError, match="went back"):
            check_running(Slots(root))
        assert running(root) == digest_of(releases.first)
        assert probation_seconds_left(Slots(root)) == 0

    def test_a_first_bundle_has_nothing_to_go_back_to(self, releases: Releases, root: Path) -> None:
        configure(root, after_switch="false")
        with pytest.raises(InstallError, match="no previous bundle to go back to"):
            install(releases.first, root)
        assert running(root) == digest_of(releases.first)

    def test_a_service_that_cannot_be_restarted_goes_back(self, releases: Releases, root: Path, tmp_path: Path) -> None:
        install(releases.first, root)
        configure(root, after_switch=f"sh -c 'echo $EDGETL_BUNDLE >> {tmp_path}/switches; exit 1'")
        with pytest.raises(InstallError, match=r"the command after the switch ended with code 1.* went back"):
            install(releases.second, root)
        assert running(root) == digest_of(releases.first)
        assert (tmp_path / "switches").read_text() == f"{root}/current/bundle.edgetl\n" * 2

    @pytest.mark.parametrize(
        ("command", "complaint"),
        [("no-such-command", "cannot be run"), ("'", "cannot be run"), ("sleep 9", "took more than 0.2 seconds")],
    )
    def test_a_command_that_does_not_work_is_named(
        self, command: str, complaint: str, releases: Releases, root: Path
    ) -> None:
        configure(root, health_check=command, command_seconds=0.2)
        with pytest.raises(InstallError, match=f"the health check {complaint}"):
            install(releases.first, root)

    def test_a_device_without_a_bundle_is_refused(self, root: Path) -> None:
        done = on_device(root, "health")
        assert done.returncode == 2
        assert "nothing is installed" in done.stderr


class TestSettings:
    def test_they_are_kept(self, root: Path) -> None:
        answer_of(root, "configure", "--target", "rpi4", "--probation-seconds", "5")
        answer_of(root, "configure", "--health-check", "true")
        assert read_settings(root) == Settings(target="rpi4", probation_seconds=5, health_check="true")
        assert answer_of(root, "configure")["target"] == "rpi4"

    @pytest.mark.parametrize(
        "content", ["", "[]", '{"colour": 1}', '{"slots": 1}', '{"slots": true}', '{"target": 4}', "[" * 100_000]
    )
    def test_an_invalid_settings_file_is_refused(self, content: str, root: Path) -> None:
        root.mkdir()
        (root / "settings.json").write_text(content)
        with pytest.raises(OptionError):
            read_settings(root)


class TestInventory:
    def test_it_describes_what_runs_and_what_is_stored(self, releases: Releases, root: Path) -> None:
        assert take_inventory(root).running is None
        install(releases.first, root)
        install(releases.second, root)
        status = answer_of(root, "status")
        assert status["running"]["digest"] == digest_of(releases.second)
        assert status["previous"] == digest_of(releases.first)
        assert status["running"]["labels"] == ["blue", "green", "red"]
        entries = open_bundle(releases.second).manifest.entries
        assert status["running"]["entries"] == {name: entry["sha256"] for name, entry in entries.items()}
        assert status["machine"]["free_bytes"] > 0

    def test_people_read_lines(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        done = on_device(root, "status")
        assert "labels blue, green, red" in done.stdout
        assert "sha256" not in done.stdout


class TestTrust:
    @pytest.fixture
    def key(self, root: Path, tmp_path: Path) -> Any:
        make_key(tmp_path / "release.key")
        answer_of(root, "trust", tmp_path / "release.pub")
        return read_private_key(tmp_path / "release.key")

    @pytest.fixture
    def signed(self, key: Any, tmp_path: Path) -> Callable[[Path, int], Path]:
        def sign_as(bundle: Path, sequence: int) -> Path:
            return write_bundle(tmp_path / f"{bundle.stem}-{sequence}.edgetl", sign(open_bundle(bundle), key, sequence))

        return sign_as

    def test_a_signed_bundle_runs_and_an_unsigned_or_altered_one_does_not(
        self, releases: Releases, root: Path, signed: Callable[[Path, int], Path], tmp_path: Path
    ) -> None:
        install(signed(releases.first, 1), root)
        with pytest.raises(SignatureError, match="is not signed"):
            install(releases.second, root)
        genuine = open_bundle(signed(releases.second, 2))
        altered = repacked(releases.second, tmp_path / "altered.edgetl", name="altered")
        write_bundle(altered, replace(open_bundle(altered), signature=genuine.signature))
        with pytest.raises(SignatureError, match="not for this content"):
            install(altered, root)
        assert running(root) == digest_of(releases.first)

    def test_a_replayed_old_bundle_is_refused_unless_it_is_allowed(
        self, releases: Releases, root: Path, signed: Callable[[Path, int], Path]
    ) -> None:
        old = signed(releases.first, 1)
        install(old, root)
        install(signed(releases.second, 2), root)
        done = on_device(root, "install", old)
        assert done.returncode == 2
        assert "was signed as number 1, and number 2 runs here or has run here" in done.stderr
        assert answer_of(root, "install", old, "--allow-downgrade")["digest"] == digest_of(releases.first)

    def test_a_bundle_from_before_the_key_was_trusted_can_be_replaced(self, releases: Releases, tmp_path: Path) -> None:
        root = tmp_path / "device"
        install(releases.first, root)
        make_key(tmp_path / "late.key")
        assert len(answer_of(root, "trust", tmp_path / "late.pub")["trusted_keys"]) == 1
        key = read_private_key(tmp_path / "late.key")
        for number, bundle in enumerate((releases.first, releases.second), 1):
            install(write_bundle(tmp_path / "signed.edgetl", sign(open_bundle(bundle), key, number)), root)
        assert all(slot["signed"] for slot in answer_of(root, "status")["slots"])

    def test_a_damaged_key_lets_nothing_in(self, releases: Releases, root: Path, key: Any) -> None:
        (trusted,) = (root / "keys").iterdir()
        trusted.write_text("none")
        with pytest.raises(KeyFileError, match="is not an ed25519 public key"):
            install(releases.first, root)

    def test_a_removed_key_is_no_longer_trusted(self, releases: Releases, root: Path, key: Any) -> None:
        (identity,) = answer_of(root, "trust")["trusted_keys"]
        assert answer_of(root, "trust", "--remove", identity)["trusted_keys"] == []
        with pytest.raises(SignatureError, match="requires signatures and trusts no key"):
            install(releases.first, root)
        assert answer_of(root, "configure", "--require-signatures", "no")["require_signatures"] is False
        install(releases.first, root)
