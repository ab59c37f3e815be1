"""Describes a systemd service that runs the current bundle."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from edgetl.errors import OptionError

WATCHDOG_SECONDS = 120
"""More than the 30 that a command of --on-label may keep the next picture waiting, on a slow board too."""
RESTART_SECONDS = 5


@dataclass(frozen=True)
class Unit:
    """A service that runs `edgetl run` on the bundle that a device root has as its current one."""

    python: str
    """The interpreter that has edgetl, by an absolute path."""
    root: Path
    """Absolute."""
    run_options: str
    """Of `edgetl run`, as a shell would take them; no shell does."""
    memory_bytes: Optional[int] = None
    """The board's; None leaves it to systemd to find out. The service may take half of it."""
    account: Optional[str] = None
    """Whose rights a system service has; None for one of a user's own service manager."""


def render(unit: Unit) -> str:
    """The unit file's text; see systemd.service(5), systemd.exec(5). Raises OptionError for options that do not parse.

    The service can write what is learned and nothing else. It has the rights of the account that the device root
    belongs to, and not a DynamicUser's: whoever teaches over SSH writes the same state. Devices stay visible, for
    cameras and the Edge TPU.
    """
    sections = {"Unit": _about(), "Service": _service(unit), "Install": _installing(unit)}
    return "\n".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())


def _about() -> List[str]:
    # Without a limit of starts: nobody is there to start it again when the camera is plugged in at last.
    return ["Description=edgetl: classify pictures with the current bundle", "StartLimitIntervalSec=0"]


def _service(unit: Unit) -> List[str]:
    return [
        "Type=notify",
        f"ExecStart={_command(unit)}",
        "Restart=on-failure",
        f"RestartSec={RESTART_SECONDS}",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        f"MemoryMax={unit.memory_bytes // 2 if unit.memory_bytes else '50%'}",
        *([f"User={unit.account}", *_SYSTEM_HARDENING] if unit.account else _USER_HARDENING),
        *_HARDENING,
        f"ReadWritePaths={_quoted(str(unit.root / 'slots'))}",
    ]


def _installing(unit: Unit) -> List[str]:
    return [f"WantedBy={'multi-user' if unit.account else 'default'}.target"]


def _command(unit: Unit) -> str:
    current = unit.root / "current"
    try:
        options = shlex.split(unit.run_options)
    except ValueError as error:
        raise OptionError(f"the options of the service cannot be read: {error}, in {unit.run_options!r}") from error
    words = [unit.python, "-m", "edgetl", "run", str(current / "bundle.edgetl")]
    # The state is named, so that a service that began before the first lesson learns of it too.
    words += ["--state", str(current / "bundle.state"), *options]
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    """A word as systemd.syntax(7) takes it, with nothing in it that it would expand."""
    if any(not character.isprintable() for character in word):
        raise OptionError(f"a service takes no line breaks or control characters, as in {word!r}")
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


_HARDENING = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",  # ProtectSystem leaves homes out
    "PrivateTmp=yes",
    "LockPersonality=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "UMask=0022",
]
_USER_HARDENING = ["PrivateUsers=yes"]
"""A user's service manager may make nothing read-only without it."""
_SYSTEM_HARDENING = [
    "CapabilityBoundingSet=",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectProc=invisible",
]
"""What a user's service manager has not the rights to do. ProtectClock is not here: it would hide cameras."""
