"""The current bundle runs as a systemd service, which restarts after a switch and is monitored."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Optional

import pytest

from edgetl.deployment import connect, teach
from edgetl.errors import InstallError, OptionError
from edgetl.runtime.device import service
from edgetl.runtime.device import systemd_unit as unit_file
from edgetl.runtime.device.health import begin_probation, check_running
from edgetl.runtime.device.installation import install, rollback
from edgetl.runtime.device.inventory import take_inventory
from edgetl.runtime.device.settings import Settings, read_settings, write_settings
from edgetl.runtime.device.slots import Slots
from edgetl.runtime.device.systemd_unit import Unit, render
from edgetl.runtime.system import notify_alive, notify_ready
from tests.emulation.tools import or_skip
from tests.models import CACHE
from tests.runtime.device.installing import Releases, digest_of, on_device
from tests.runtime.device.systemd import managing
from tests.runtime.learning.states import frame, jpeg

AWKWARD = "--source '/srv/my $HOME %n \"pictures\"' --watch"


def unit(account: Optional[str] = "root", **changes: object) -> Unit:
    return Unit(sys.executable, Path("/srv/my 100% edgetl"), AWKWARD, account=account, **changes)  # type: ignore[arg-type]


class TestUnit:
    @pytest.mark.parametrize("account", ["root", None], ids=["system", "user"])
    def test_systemd_takes_it(self, account: Optional[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("there is no systemd-analyze on this machine")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        path = tmp_path / "edgetl.service"
        path.write_text(render(unit(account)))
        scope = "--system" if account else "--user"
        verify = ["systemd-analyze", scope, "verify", "--recursive-errors=yes", str(path)]
        done = subprocess.run(verify, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_is_enabled_for_every_start(self, tmp_path: Path) -> None:
        if shutil.which("systemctl") is None:
            pytest.skip("there is no systemctl on this machine")
        folder = tmp_path / "etc/systemd/system"
        folder.mkdir(parents=True)
        (folder / "edgetl.service").write_text(render(unit()))
        subprocess.run(["systemctl", f"--root={tmp_path}", "enable", "edgetl.service"], check=True, capture_output=True)
        assert (folder / "multi-user.target.wants/edgetl.service").is_symlink()

    def test_it_may_write_only_what_is_learned(self) -> None:
        for account in ("root", None):
            lines = render(unit(account)).splitlines()
            assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=read-only"} <= set(lines)
            assert [line for line in lines if "Write" in line] == ['ReadWritePaths="/srv/my 100%% edgetl/slots"']

    def test_it_may_take_half_of_the_memory(self) -> None:
        assert "MemoryMax=536870912\n" in render(unit(memory_bytes=1 << 30))
        assert "MemoryMax=50%\n" in render(unit())

    @pytest.mark.parametrize("options", ["--source '", "--source 'a\nUser=root'"])
    def test_invalid_options_are_refused(self, options: str) -> None:
        with pytest.raises(OptionError):
            render(Unit("/usr/bin/python3", Path("/srv/edgetl"), options))


class TestHeartbeat:
    @pytest.mark.parametrize("is_abstract", [False, True], ids=["in a folder", "abstract"])
    def test_the_service_manager_receives_it(
        self, is_abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"edgetl-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(f"\0{name}" if is_abstract else name)
            listening.settimeout(5)
            monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if is_abstract else name)
            notify_ready()
            notify_alive()
            assert [listening.recv(100), listening.recv(100)] == [b"READY=1", b"WATCHDOG=1"]

    def test_without_a_listener_nothing_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        notify_alive()
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
        notify_alive()


class TestWithoutServiceManager:
    def test_nothing_is_changed(self, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(releases.first, tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InstallError, match="there is no systemctl here, so no service"):
            service.install_service(tmp_path)
        assert read_settings(tmp_path) == Settings()

    def test_a_service_needs_something_to_run(self, tmp_path: Path) -> None:
        done = on_device(tmp_path, "service")
        assert done.returncode == 2
        assert "nothing is installed" in done.stderr


@pytest.fixture(scope="module")
def manager() -> Iterator[dict[str, str]]:
    with or_skip(), managing() as environment:
        yield environment


@pytest.fixture
def root(manager: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A device root whose service, if it has one, is a user's; a folder beside it holds the pictures.

    Neither lies in /tmp, for the service has one of its own.
    """
    monkeypatch.setattr(service, "_is_root", lambda: False)
    for name, value in manager.items():
        monkeypatch.setenv(name, value)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        for name in ("pictures", "device"):
            Path(folder, name).mkdir()
        write_settings(Path(folder, "device"), Settings(probation_seconds=1))
        yield Path(folder, "device")
        service.remove_service(Path(folder, "device"))


def watching(root: Path) -> str:
    return f"--source {root.parent}/pictures --watch --json"


def state(root: Path) -> service.ServiceState:
    found = service.describe_service(root, read_settings(root))
    assert found is not None
    return found


def process_of(root: Path) -> str:
    command = ["systemctl", "--user", "show", "--property=MainPID", "--value", service.service_name(root)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def until(happened: Callable[[], bool], seconds: float = 30) -> None:
    """Waits for something that another process does."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestService:
    def test_it_names_pictures_and_can_write_only_what_is_learned(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        command = f"sh -c 'touch {root}/seen; touch {root}/slots/seen'"
        done = service.install_service(root, f"{watching(root)} --on-label red {shlex.quote(command)}")
        assert (done.state, done.name) == ("active", "edgetl-device.service")
        assert take_inventory(root).service == service.ServiceState("edgetl-device.service", "active", 0)
        (root.parent / "pictures/red.jpg").write_bytes(jpeg(frame("red")))
        until((root / "slots/seen").exists)
        assert not (root / "seen").exists()

    def test_it_follows_what_the_device_is_taught(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        command = shlex.quote(f"touch {root}/slots/seen")
        service.install_service(root, f"{watching(root)} --on-label yellow {command}")
        before = process_of(root)
        (root.parent / "taught.jpg").write_bytes(jpeg(frame("yellow")))
        with connect(str(root)) as transport:
            teach(transport, "yellow", [root.parent / "taught.jpg"])
        (root.parent / "pictures/another.jpg").write_bytes(jpeg(frame("yellow", 9)))
        until((root / "slots/seen").exists)
        assert process_of(root) == before

    def test_a_switch_restarts_it(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        service.install_service(root, watching(root))
        first = process_of(root)
        install(releases.second, root)
        second = process_of(root)
        rollback(root)
        assert len({first, second, process_of(root)}) == 3
        assert state(root).state == "active"

    def test_one_that_does_not_start_goes_back(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        service.install_service(root, watching(root))
        (root.parent / "pictures").rmdir()
        with pytest.raises(InstallError, match=r"restart edgetl-device.service failed.* went back"):
            install(releases.second, root)
        current = Slots(root).current
        assert current is not None
        assert current.digest == digest_of(releases.first)

    def test_one_that_was_restarted_on_probation_goes_back(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        service.install_service(root, watching(root))
        install(releases.second, root)
        begin_probation(Slots(root), Slots(root).of(digest_of(releases.second)), 20)
        check_running(Slots(root))
        subprocess.run(["systemctl", "--user", "kill", "--signal=KILL", service.service_name(root)], check=True)
        until(lambda: state(root).state != "active")
        with pytest.raises(InstallError, match=r"edgetl-device.service is activating after .* went back"):
            check_running(Slots(root))
        assert (state(root).state, state(root).restarts) == ("active", 0)

    def test_one_that_hangs_is_restarted(self, releases: Releases, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unit_file, "WATCHDOG_SECONDS", 5)
        install(releases.first, root)
        service.install_service(root, watching(root))
        hanging = process_of(root)
        os.kill(int(hanging), signal.SIGSTOP)
        until(lambda: state(root).state == "active" and process_of(root) not in ("0", hanging), seconds=120)
        assert state(root).restarts >= 1

    def test_it_pauses_while_the_bundle_is_measured(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        service.install_service(root, watching(root))
        with suppress(OptionError), service.pausing_service(root):
            assert state(root).state == "inactive"
            raise OptionError("whatever happens meanwhile")
        assert state(root).state == "active"

    def test_removed_it_leaves_nothing(self, releases: Releases, root: Path) -> None:
        install(releases.first, root)
        service.install_service(root, watching(root))
        assert service.remove_service(root) == service.RemovedService("edgetl-device.service", removed=True)
        assert list(service._unit_folder().rglob("edgetl*")) == []
        assert take_inventory(root).service is None
        assert not service.remove_service(root).removed
