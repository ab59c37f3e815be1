"""Checks whether the running bundle works, and returns to the previous bundle if it does not.

After a switch a bundle is on probation for some time, measured within one boot of the machine. A reboot restarts the
probation: the wall clock may have been set meanwhile, and the bundle may be what caused the reboot.
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
from edgetl.errors import EdgetlError, InstallError
from edgetl.runtime.device.ages import boot_id
from edgetl.runtime.device.proof import prove_slot
from edgetl.runtime.device.service import require_service, restart_service
from edgetl.runtime.device.settings import Settings, read_settings
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.device.state_migration import migrate_back

PROBATION = "probation.json"
INTERVAL_SECONDS = 5.0
"""Time between two checks of a bundle on probation."""


def check_health(settings: Settings, bundle: Path) -> None:
    """Runs the health check, if there is one, with EDGETL_BUNDLE set to the bundle's path. Raises InstallError."""
    _run("health check", settings.health_check, bundle, settings.command_seconds)


def announce_switch(settings: Settings, slots: Slots) -> None:
    """Restarts the service and runs the command after a switch, if there are any. Raises InstallError."""
    restart_service(slots.root, settings)
    _run("command after the switch", settings.after_switch, slots.running, settings.command_seconds)


def begin_probation(slots: Slots, slot: Slot, seconds: float) -> None:
    """Starts the probation of a slot, which takes effect once that slot is the current one. Raises StorageError."""
    _write(slots, _Probation(slot.digest, boot_id(), time.monotonic(), seconds))


def probation_seconds_left(slots: Slots) -> float:
    """The rest of the current slot's probation; 0 if it is not on probation."""
    probation = _read(slots)
    return probation.seconds_left if probation else 0.0


def check_running(slots: Slots) -> None:
    """Checks the running bundle; one that fails on probation is replaced by the previous bundle.

    Raises InstallError if the check fails, with or without a return to the previous bundle.
    """
    current, probation = slots.current, _read(slots)
    if current is None:
        raise InstallError(f"nothing is installed in {slots.root}; install a bundle first")
    if probation and probation.boot != boot_id():
        _write(slots, replace(probation, boot=boot_id(), since=time.monotonic()))
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
    """Checks the running bundle until its probation ends. Raises InstallError if a check fails."""
    slot = slots.current
    while slots.current == slot and probation_seconds_left(slots) > 0:
        check_running(slots)
        time.sleep(min(INTERVAL_SECONDS, probation_seconds_left(slots)))


def go_back(slots: Slots, failed: Slot, reason: str) -> None:
    """Returns from a failed slot to the previous one, unless another process has done so.

    The failed bundle goes on running unless the previous one is whole, proves itself, and is signed where the device
    requires it. Always raises InstallError, with the reason and the outcome.
    """
    if slots.previous is None:
        raise InstallError(f"{reason}; there is no previous bundle to go back to")
    with slots.locked():
        if slots.current == failed and slots.previous is not None:
            try:
                prove_slot(slots, slots.previous)
            except EdgetlError as error:
                raise InstallError(
                    f"{reason}; the device keeps this bundle, because the previous one cannot run: {error}"
                ) from error
            slots.rollback()
    with contextlib.suppress(InstallError):  # the reason for the rollback is what the user needs to see
        announce_switch(read_settings(slots.root), slots)
    migrate_back(failed, slots.current)
    raise InstallError(f"{reason}; the device went back to its previous bundle")


@dataclass(frozen=True)
class _Probation:
    slot: str
    """The digest of the slot."""
    boot: str
    """The boot of the machine that `since` belongs to."""
    since: float
    """Seconds on the monotonic clock, which all processes share."""
    seconds: float
    """The duration of the probation."""

    @property
    def seconds_left(self) -> float:
        passed = time.monotonic() - self.since if self.boot == boot_id() else 0.0
        return max(0.0, self.seconds - passed)


def _read(slots: Slots) -> Optional[_Probation]:
    """The probation of the current slot."""
    current = slots.current
    try:
        probation = _Probation(**json.loads((slots.root / PROBATION).read_bytes()))
        return probation if current is not None and probation.slot == current.digest else None
    except (OSError, ValueError, TypeError):
        return None


def _write(slots: Slots, probation: _Probation) -> None:
    replace_file(slots.root / PROBATION, json.dumps(asdict(probation)).encode())


def _run(purpose: str, command: str, bundle: Path, seconds: float) -> None:
    if not command:
        return
    environment = {**os.environ, "EDGETL_BUNDLE": str(bundle)}
    try:
        done = subprocess.run(
            shlex.split(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"the {purpose} took more than {seconds:g} seconds") from None
    except (OSError, ValueError) as error:
        raise InstallError(f"the {purpose} cannot be run: {error}; see: python -m edgetl.runtime configure") from error
    if done.returncode != 0:
        lines = done.stdout.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        raise InstallError(f"the {purpose} ended with code {done.returncode}: {last[:200]}")
