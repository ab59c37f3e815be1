"""Hides how the current bundle runs as a systemd service: installed, restarted after a switch, looked after, removed.

For root it is a system service, for everybody else one of the user's own. A device root has one at most.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from edgetl.durable import make_folder, replace_file
from edgetl.errors import InstallError
from edgetl.runtime.device.settings import Settings, read_settings, write_settings
from edgetl.runtime.device.slots import Slots
from edgetl.runtime.device.systemd_unit import Unit, render

RUN_OPTIONS = "--source camera --changes"
"""What the service runs with, until its owner says otherwise; a line for every frame would wear an SD card out."""
SYSTEM_UNITS = Path("/etc/systemd/system")
LINGERING = Path("/var/lib/systemd/linger")
"""Holds a file for each user whose services run without a login (systemd-logind)."""
LOG_SECONDS = 60


@dataclass(frozen=True)
class ServiceState:
    """What the service manager says of the service."""

    name: str
    state: str
    """"active", "activating", "failed", "inactive", ..., as systemctl calls it."""
    restarts: int
    """How often it was started again by itself since it was last started on purpose."""

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return {"name": self.name, "state": self.state, "restarts": self.restarts}


def install_service(
    root: Union[str, os.PathLike[str]], run_options: Optional[str] = None, memory_bytes: Optional[int] = None
) -> Dict[str, Any]:
    """Makes a service of the bundle that runs, now and after every start of the device; one that is there is renewed.

    `run_options` are those of `edgetl run`; None keeps the service's, at first RUN_OPTIONS. `memory_bytes` is the
    board's memory. Returns the service's state and whether it starts without a login, as JSON takes it.
    Raises InstallError where nothing is installed, there is no systemd, or the service does not start: it stays
    installed then, and tries again; OptionError, StorageError.
    """
    slots = Slots(Path(root).absolute())
    if slots.current is None:
        raise InstallError(f"nothing is installed in {slots.root}; install a bundle first")
    with slots.locked():
        settings = read_settings(slots.root)
        settings = replace(settings, run_options=run_options or settings.run_options or RUN_OPTIONS)
        text = render(_unit(slots.root, settings, memory_bytes))
        _manage(settings, "show", "--property=Version")  # before anything changes: whether it can be reached
        make_folder(_unit_folder())
        replace_file(_unit_folder() / service_name(slots.root), text.encode())
        write_settings(slots.root, settings)
    _manage(settings, "daemon-reload")
    _manage(settings, "enable", service_name(slots.root))
    lingers = _linger()
    restart_service(slots.root, settings)
    return {**_state(slots.root, settings).to_dict(), "run_options": settings.run_options, "starts_at_boot": lingers}


def remove_service(root: Union[str, os.PathLike[str]]) -> Dict[str, Any]:
    """Stops the service and removes it; where there is none, nothing happens. Raises InstallError, StorageError."""
    slots = Slots(Path(root).absolute())
    settings, name = read_settings(slots.root), service_name(slots.root)
    if settings.run_options:
        _manage(settings, "disable", "--now", name)
        (_unit_folder() / name).unlink(missing_ok=True)
        _manage(settings, "daemon-reload")
        with slots.locked():
            write_settings(slots.root, replace(read_settings(slots.root), run_options=""))
    return {"name": name, "removed": bool(settings.run_options)}


def restart_service(root: Path, settings: Settings) -> None:
    """Starts the service anew, where there is one, and waits until it has loaded its model. Raises InstallError."""
    if settings.run_options:
        _manage(settings, "restart", service_name(root))


@contextlib.contextmanager
def pausing_service(root: Union[str, os.PathLike[str]]) -> Iterator[None]:
    """Stops the service, where there is one that runs, and starts it again at the end of the block.

    Raises InstallError where it does not start again.
    """
    folder = Path(root).absolute()
    settings = read_settings(folder)
    state = describe_service(folder, settings)
    runs = state is not None and state.state not in ("inactive", "failed")
    if runs:
        _manage(settings, "stop", service_name(folder))
    try:
        yield
    finally:
        if runs:
            _manage(settings, "start", service_name(folder))


def require_service(root: Path, settings: Settings, on_probation: bool) -> None:
    """Raises InstallError where there is a service and it has failed; on probation, also where it did and came back."""
    state = describe_service(root, settings)
    if state and (state.state in ("failed", "activating") or (on_probation and state.restarts)):
        raise InstallError(f"{state.name} is {state.state} after {state.restarts} restarts; {_last_words(root)}")


def describe_service(root: Path, settings: Settings) -> Optional[ServiceState]:
    """The state of the service; None where there is none. Raises InstallError where nobody tells."""
    return _state(root, settings) if settings.run_options else None


def read_log(root: Union[str, os.PathLike[str]], lines: int = 50) -> List[str]:
    """The latest lines that the service has said, with their times, the oldest first. Raises InstallError."""
    return _run(_journal(root, lines), LOG_SECONDS).splitlines()


def follow_log(root: Union[str, os.PathLike[str]], lines: int = 50) -> None:
    """Writes the latest lines to standard output, and each further one when it is said, until standard input ends.

    So it ends with the link of whoever follows from afar. Raises InstallError.
    """
    with _starting("journalctl"):
        journal = subprocess.Popen([*_journal(root, lines), "--follow"], stdin=subprocess.DEVNULL, stderr=sys.stderr)

    def end_with_input() -> None:
        while os.read(0, 4096):  # sys.stdin has a lock, which would be held at the process's end
            pass
        journal.terminate()

    threading.Thread(target=end_with_input, daemon=True).start()
    if journal.wait() > 0:
        raise InstallError(f"journalctl ended with code {journal.returncode}; see: edgetl logs, without --follow")


def service_name(root: Path) -> str:
    """The name of the unit: that of the device root's folder, which is "edgetl" by default."""
    folder = re.sub(r"[^\w.-]", "-", root.absolute().name, flags=re.ASCII)
    return f"{folder if folder == 'edgetl' else f'edgetl-{folder}'}.service"


def _unit(root: Path, settings: Settings, memory_bytes: Optional[int]) -> Unit:
    owner = pwd.getpwuid((root / "slots").stat().st_uid).pw_name
    account = owner if _is_root() else None
    return Unit(sys.executable, root, settings.run_options, memory_bytes, account)


def _state(root: Path, settings: Settings) -> ServiceState:
    name = service_name(root)
    shown = _manage(settings, "show", "--property=ActiveState,NRestarts", name)
    told = dict(line.partition("=")[::2] for line in shown.splitlines())
    return ServiceState(name, told.get("ActiveState", "unknown"), int(told.get("NRestarts") or 0))


def _linger() -> bool:
    """Has the user's services run without a login, where that is allowed; returns whether they do."""
    if _is_root():
        return True
    try:
        _run(["loginctl", "enable-linger", getpass.getuser()], LOG_SECONDS)
    except InstallError:
        return (LINGERING / getpass.getuser()).exists()
    return True


def _manage(settings: Settings, *words: str) -> str:
    """What systemctl answers."""
    return _run(["systemctl", *([] if _is_root() else ["--user"]), *words], settings.command_seconds)


def _run(command: List[str], seconds: float) -> str:
    # A command that comes by SSH, or from a timer, may not know where its user's service manager is.
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", **os.environ, "LC_ALL": "C"}
    options: Dict[str, Any] = {"env": environment, "stdin": subprocess.DEVNULL, "capture_output": True}
    try:
        with _starting(command[0]):
            ran = subprocess.run(command, timeout=seconds, **options)
    except subprocess.TimeoutExpired:
        raise InstallError(f"{' '.join(command)} took more than {seconds:g} seconds; see: edgetl logs") from None
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines() or [f"code {ran.returncode}"]
        raise InstallError(f"{' '.join(command)} failed: {said[0]}; see: edgetl logs")
    return ran.stdout.decode(errors="replace")


def _journal(root: Union[str, os.PathLike[str]], lines: int) -> List[str]:
    selector = "--unit" if _is_root() else "--user-unit"
    options = ["--quiet", "--no-pager", f"--lines={lines}", "--output=short-iso"]
    return ["journalctl", *options, f"{selector}={service_name(Path(root))}"]


@contextlib.contextmanager
def _starting(command: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InstallError(f"there is no {command} here, so no service; start edgetl run by what there is") from None


def _last_words(root: Path) -> str:
    try:
        said = read_log(root, lines=1)
    except InstallError:
        said = []
    return f"it said last: {said[-1]}" if said else "see: edgetl logs"


def _unit_folder() -> Path:
    if _is_root():
        return SYSTEM_UNITS
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _is_root() -> bool:
    return os.geteuid() == 0
