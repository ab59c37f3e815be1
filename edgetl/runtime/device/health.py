"""Hides how a device decides whether the bundle that runs does its work, and goes back where it does not.

A bundle is on probation for some time after the switch to it, counted within one run of the machine: a restart
begins the time anew, for a clock that was set says nothing, and a restart may be what the bundle caused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Optional

from edgetl.durable import replace_file
from edgetl.errors import InstallError
from edgetl.runtime.device.service import require_service, restart_service
from edgetl.runtime.device.settings import Settings, read_settings
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.device.state_migration import carry_back

PROBATION = "probation.json"
INTERVAL_SECONDS = 5.0
"""Between two checks of a bundle on probation."""


def check_health(settings: Settings, bundle: Path) -> None:
    """Runs the health check, where there is one, with EDGETL_BUNDLE naming the bundle. Raises InstallError."""
    _run("health check", settings.health_check, bundle, settings.command_seconds)


def tell_switch(settings: Settings, slots: Slots) -> None:
    """Restarts the service and runs the command that follows a switch, where there are such. Raises InstallError."""
    restart_service(slots.root, settings)
    _run("command after the switch", settings.after_switch, slots.running, settings.command_seconds)


def begin_probation(slots: Slots, slot: Slot, seconds: float) -> None:
    """Writes down that a slot is on probation from now; it counts once that slot runs. Raises StorageError."""
    _write(slots, _Probation(slot.digest, _boot(), time.monotonic(), seconds))


def probation_seconds_left(slots: Slots) -> float:
    """How long the slot that runs is still on probation; 0 where it is not."""
    probation = _read(slots)
    return probation.seconds_left if probation else 0.0


def check_running(slots: Slots) -> None:
    """Checks the bundle that runs; one that fails on probation makes room for the previous one.

    Raises InstallError where it fails, whether or not that goes back.
    """
    current, probation = slots.current, _read(slots)
    if current is None:
        raise InstallError(f"nothing is installed in {slots.root}; install a bundle first")
    if probation and probation.boot != _boot():
        _write(slots, replace(probation, boot=_boot(), since=time.monotonic()))
    on_probation = bool(probation and probation.seconds_left)
    try:
        settings = read_settings(slots.root)
        require_service(slots.root, settings, on_probation)
        check_health(settings, slots.running)
    except InstallError as error:
        if not on_probation:
            raise
        go_back(slots, current, str(error))


def watch_probation(slots: Slots) -> None:
    """Checks the bundle that runs until its probation ends. Raises InstallError where it fails."""
    slot = slots.current
    while slots.current == slot and probation_seconds_left(slots) > 0:
        check_running(slots)
        time.sleep(min(INTERVAL_SECONDS, probation_seconds_left(slots)))


def go_back(slots: Slots, failed: Slot, reason: str) -> None:
    """Goes back from a slot that failed, unless that has been done. Raises InstallError, with how it ended."""
    if slots.previous is None:
        raise InstallError(f"{reason}; there is no previous bundle to go back to")
    with slots.locked():
        if slots.current == failed:
            slots.rollback()
    with contextlib.suppress(InstallError):  # the reason to go back is what must be told
        tell_switch(read_settings(slots.root), slots)
    carry_back(failed, slots.current)
    raise InstallError(f"{reason}; the device went back to its previous bundle")


@dataclass(frozen=True)
class _Probation:
    slot: str
    boot: str
    """The run of the machine that `since` belongs to."""
    since: float
    """Seconds of the monotonic clock, which all processes share."""
    seconds: float

    @property
    def seconds_left(self) -> float:
        passed = time.monotonic() - self.since if self.boot == _boot() else 0.0
        return max(0.0, self.seconds - passed)


def _read(slots: Slots) -> Optional[_Probation]:
    """The probation of the slot that runs."""
    current = slots.current
    try:
        probation = _Probation(**json.loads((slots.root / PROBATION).read_bytes()))
        return probation if current is not None and probation.slot == current.digest else None
    except (OSError, ValueError, TypeError):
        return None


def _write(slots: Slots, probation: _Probation) -> None:
    replace_file(slots.root / PROBATION, json.dumps(asdict(probation)).encode())


def _boot() -> str:
    """What tells one run of the machine from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _run(what: str, command: str, bundle: Path, seconds: float) -> None:
    if not command:
        return
    environment = {**os.environ, "EDGETL_BUNDLE": str(bundle)}
    try:
        ran = subprocess.run(
            shlex.split(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"the {what} took more than {seconds:g} seconds") from None
    except (OSError, ValueError) as error:
        raise InstallError(f"the {what} cannot be run: {error}; see: python -m edgetl.runtime configure") from error
    if ran.returncode != 0:
        said = ran.stdout.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        raise InstallError(f"the {what} ended with code {ran.returncode}: {last[:200]}")
