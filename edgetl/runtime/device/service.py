"""Runs the current bundle as a systemd service: installs, restarts, checks and removes it, and reads its log.

For root it is a system service, for other users a user service. A device root has at most one.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from edgetl.durable import make_folder, replace_file
from edgetl.errors import InstallError
from edgetl.runtime.device.settings import Settings, read_settings, write_settings
from edgetl.runtime.device.slots import Slots
from edgetl.runtime.device.systemd_unit import Unit, render

RUN_OPTIONS = "--source camera --changes"
"""The default options of the service. A log line for every frame would wear out an SD card, hence --changes."""
SYSTEM_UNITS = Path("/etc/systemd/system")
LINGERING = Path("/var/lib/systemd/linger")
"""Contains a file for each user whose services run without a login (systemd-logind)."""
LOG_SECONDS = 60
"""Time limit of journalctl and loginctl."""


@dataclass(frozen=True)
class ServiceState:
    """The state of the service, as reported by systemd."""

    name: str
    state: str
    """systemd's ActiveState: "active", "activating", "failed", "inactive", ..."""
    restarts: int
    """Automatic restarts since the service was last started on purpose."""

    def to_dict(self) -> Dict[str, Any]:
        """The state as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class InstalledService(ServiceState):
    """A service after its installation."""

    run_options: str
    """The options that it passes to `edgetl run`."""
    starts_at_boot: bool
    """False if it starts only when its user logs in."""


@dataclass(frozen=True)
class RemovedService:
    """The result of removing a service."""

    name: str
    removed: bool
    """False if there was no service."""

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)


def install_service(
    root: Union[str, os.PathLike[str]], run_options: Optional[str] = None, memory_bytes: Optional[int] = None
) -> InstalledService:
    """Installs or replaces the service that runs the current bundle, starts it, and enables it at boot.

    `run_options` are the options of `edgetl run`; None keeps those of the existing service, or takes RUN_OPTIONS.
    `memory_bytes` is the board's memory, of which the service may use half.
    Raises InstallError if nothing is installed, there is no systemd, or the service does not start (it stays installed
    then, and systemd tries again); OptionError, StorageError.
    """
    slots = Slots(Path(root).absolute())
    if slots.current is None:
        raise InstallError(f"nothing is installed in {slots.root}; install a bundle first")
    with slots.locked():
        settings = read_settings(slots.root)
        settings = replace(settings, run_options=run_options or settings.run_options or RUN_OPTIONS)
        text = render(_unit(slots.root, settings, memory_bytes))
        _manage(settings, "show", "--property=Version")  # fails before anything changes if systemd cannot be reached
        make_folder(_unit_folder())
        replace_file(_unit_folder() / service_name(slots.root), text.encode())
        write_settings(slots.root, settings)
    _manage(settings, "daemon-reload")
    _manage(settings, "enable", service_name(slots.root))
    starts_at_boot = _enable_lingering()
    restart_service(slots.root, settings)
    state = _state(slots.root, settings)
    return InstalledService(state.name, state.state, state.restarts, settings.run_options, starts_at_boot)


def remove_service(root: Union[str, os.PathLike[str]]) -> RemovedService:
    """Stops the service and removes it, if there is one. Raises InstallError, StorageError."""
    slots = Slots(Path(root).absolute())
    settings, name = read_settings(slots.root), service_name(slots.root)
    if settings.run_options:
        _manage(settings, "disable", "--now", name)
        (_unit_folder() / name).unlink(missing_ok=True)
        _manage(settings, "daemon-reload")
        with slots.locked():
            write_settings(slots.root, replace(read_settings(slots.root), run_options=""))
    return RemovedService(name, bool(settings.run_options))


def restart_service(root: Path, settings: Settings) -> None:
    """Restarts the service, if there is one, and waits until it has loaded its model. Raises InstallError."""
    if settings.run_options:
        _manage(settings, "restart", service_name(root))


@contextlib.contextmanager
def pausing_service(root: Union[str, os.PathLike[str]]) -> Iterator[None]:
    """Stops the service in the block, if there is one that runs. Raises InstallError if it does not start again."""
    folder = Path(root).absolute()
    settings = read_settings(folder)
    state = describe_service(folder, settings)
    is_running = state is not None and state.state not in ("inactive", "failed")
    if is_running:
        _manage(settings, "stop", service_name(folder))
    try:
        yield
    finally:
        if is_running:
            _manage(settings, "start", service_name(folder))


def require_service(root: Path, settings: Settings, on_probation: bool) -> None:
    """Raises InstallError if the service has failed; on probation, also if it failed and systemd restarted it."""
    state = describe_service(root, settings)
    if state and (state.state in ("failed", "activating") or (on_probation and state.restarts)):
        raise InstallError(f"{state.name} is {state.state} after {state.restarts} restarts; {_last_log_line(root)}")


def describe_service(root: Path, settings: Settings) -> Optional[ServiceState]:
    """The state of the service; None without one. Raises InstallError if systemd does not answer."""
    return _state(root, settings) if settings.run_options else None


def read_log(root: Union[str, os.PathLike[str]], lines: int = 50) -> List[str]:
    """The latest log lines of the service, with their times, the oldest first. Raises InstallError."""
    return _run(_journal(root, lines), LOG_SECONDS).splitlines()


def follow_log(root: Union[str, os.PathLike[str]], lines: int = 50) -> None:
    """Writes the latest log lines to standard output, and each new one, until standard input ends.

    Standard input ends when the connection of a remote user does. Raises InstallError.
    """
    with _requiring("journalctl"):
        journal = subprocess.Popen([*_journal(root, lines), "--follow"], stdin=subprocess.DEVNULL, stderr=sys.stderr)

    def end_with_input() -> None:
        while os.read(0, 4096):  # reading sys.stdin would hold its lock at exit
            pass
        journal.terminate()

    threading.Thread(target=end_with_input, daemon=True).start()
    if journal.wait() > 0:
        raise InstallError(f"journalctl exited with code {journal.returncode}; try edgetl logs without --follow")


def service_name(root: Path) -> str:
    """The name of the unit, from the name of the device root's folder, which is "edgetl" by default."""
    folder = re.sub(r"[^\w.-]", "-", root.absolute().name, flags=re.ASCII)
    return f"{folder if folder == 'edgetl' else f'edgetl-{folder}'}.service"


def _unit(root: Path, settings: Settings, memory_bytes: Optional[int]) -> Unit:
    owner = pwd.getpwuid((root / "slots").stat().st_uid).pw_name
    account = owner if _is_root() else None
    return Unit(sys.executable, root, settings.run_options, memory_bytes, account)


def _state(root: Path, settings: Settings) -> ServiceState:
    name = service_name(root)
    output = _manage(settings, "show", "--property=ActiveState,NRestarts", name)
    properties = dict(line.partition("=")[::2] for line in output.splitlines())
    return ServiceState(name, properties.get("ActiveState", "unknown"), int(properties.get("NRestarts") or 0))


def _enable_lingering() -> bool:
    """Makes the user's services run without a login, if that is allowed; returns whether they do."""
    if _is_root():
        return True
    try:
        _run(["loginctl", "enable-linger", getpass.getuser()], LOG_SECONDS)
    except InstallError:
        return (LINGERING / getpass.getuser()).exists()
    return True


def _manage(settings: Settings, *words: str) -> str:
    """Runs systemctl; returns its output."""
    return _run(["systemctl", *([] if _is_root() else ["--user"]), *words], settings.command_seconds)


def _run(command: List[str], seconds: float) -> str:
    # A command run over SSH or by a timer may lack the variable that locates the user's service manager.
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", **os.environ, "LC_ALL": "C"}
    try:
        with _requiring(command[0]):
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
            )
    except subprocess.TimeoutExpired:
        raise InstallError(f"{' '.join(command)} took more than {seconds:g} seconds; see edgetl logs") from None
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines() or [f"code {done.returncode}"]
        raise InstallError(f"{' '.join(command)} failed: {complaint[0]}; see edgetl logs")
    return done.stdout.decode(errors="replace")


def _journal(root: Union[str, os.PathLike[str]], lines: int) -> List[str]:
    selector = "--unit" if _is_root() else "--user-unit"
    options = ["--quiet", "--no-pager", f"--lines={lines}", "--output=short-iso"]
    return ["journalctl", *options, f"{selector}={service_name(Path(root))}"]


@contextlib.contextmanager
def _requiring(command: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InstallError(
            f"there is no {command} here, so no service; start edgetl run with the init system of this device"
        ) from None


def _last_log_line(root: Path) -> str:
    try:
        lines = read_log(root, lines=1)
    except InstallError:
        lines = []
    return f"its last log line: {lines[-1]}" if lines else "see edgetl logs"


def _unit_folder() -> Path:
    if _is_root():
        return SYSTEM_UNITS
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _is_root() -> bool:
    return os.geteuid() == 0
