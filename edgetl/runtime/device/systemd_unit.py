"""Writes the systemd unit of a service that runs the current bundle."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from edgetl.errors import OptionError
from edgetl.text import for_systemd

WATCHDOG_SECONDS = 120
"""More than the 30 s for which a command of --on-label may delay the next picture, on slow boards too."""
RESTART_SECONDS = 5


@dataclass(frozen=True)
class Unit:
    """A service that runs `edgetl run` on the current bundle of a device root."""

    python: str
    """Absolute path of the Python interpreter in which edgetl is installed."""
    root: Path
    """Absolute path of the device root."""
    run_options: str
    """Options of `edgetl run`, quoted as for a shell; no shell runs them."""
    memory_bytes: Optional[int] = None
    """The board's memory, of which the service may use half; None: half of what systemd finds."""
    account: Optional[str] = None
    """The account that a system service runs as; None for a user service."""


def render(unit: Unit) -> str:
    """The text of the unit file; see systemd.service(5), systemd.exec(5). Raises OptionError for invalid options.

    The service can write what it learns and nothing else. It runs as the account that owns the device root, not as a
    DynamicUser, because users who teach over SSH write to the same state. Devices stay visible, for cameras and the
    Edge TPU.
    """
    sections = {"Unit": _unit_section(), "Service": _service_section(unit), "Install": _install_section(unit)}
    return "\n".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())


def _unit_section() -> List[str]:
    # No limit on restarts: nobody is there to start it again once the camera is plugged in.
    return ["Description=edgetl: classify pictures with the current bundle", "StartLimitIntervalSec=0"]


def _service_section(unit: Unit) -> List[str]:
    return [
        "Type=notify",
        f"ExecStart={_command(unit)}",
        "Restart=on-failure",
        f"RestartSec={RESTART_SECONDS}",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        f"MemoryMax={unit.memory_bytes // 2 if unit.memory_bytes else '50%'}",
        *([f"User={unit.account}", *_SYSTEM_HARDENING] if unit.account else _USER_HARDENING),
        *_HARDENING,
        f"ReadWritePaths={for_systemd(str(unit.root / 'slots'))}",
    ]


def _install_section(unit: Unit) -> List[str]:
    return [f"WantedBy={'multi-user' if unit.account else 'default'}.target"]


def _command(unit: Unit) -> str:
    current = unit.root / "current"
    try:
        options = shlex.split(unit.run_options)
    except ValueError as error:
        raise OptionError(f"invalid run options {unit.run_options!r}: {error}; quote them as for a shell") from error
    words = [unit.python, "-m", "edgetl", "run", str(current / "bundle.edgetl")]
    # With a named state, a service that started before the first picture was taught follows it too.
    words += ["--state", str(current / "bundle.state"), *options]
    return " ".join(for_systemd(word).replace("$", "$$") for word in words)


_HARDENING = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",  # ProtectSystem does not cover home folders
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
"""A user's service manager can make nothing read-only without it."""
_SYSTEM_HARDENING = [
    "CapabilityBoundingSet=",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectProc=invisible",
]
"""What a user's service manager is not permitted to do. ProtectClock is left out: it would hide cameras."""
