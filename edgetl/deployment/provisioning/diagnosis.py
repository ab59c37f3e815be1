"""Examines a device without changing it: what it is, what it has, and what would prevent a deployment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

from edgetl.deployment.answers import DeviceInventory
from edgetl.deployment.provisioning.environment import (
    Machine,
    camera_advice,
    obstacles,
    own_environment,
    probe_machine,
    require_ssh,
)
from edgetl.deployment.remote_verbs import inventory
from edgetl.deployment.transport import Transport
from edgetl.runtime.system import Package, list_packages

LIBEDGETPU = "github.com/feranick/libedgetpu"


@dataclass(frozen=True)
class CheckResult:
    """One property of a device."""

    name: str
    found: str
    advice: str = ""
    """What to do about it; empty if nothing has to be done."""


@dataclass(frozen=True)
class Diagnosis:
    """What a device is and has, and whether it can be deployed to."""

    where: str
    machine: Machine
    device: Optional[DeviceInventory]
    """None if the device has no edgetl yet."""
    findings: tuple[CheckResult, ...]
    is_usable: bool
    """Whether a deployment can make it run a bundle."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return {**asdict(self), "device": self.device and self.device.to_dict()}


def diagnose(transport: Transport) -> Diagnosis:
    """Examine a device: what a deployment would find there. Nothing is changed.

    Raises:
        OptionError: the device is a folder of this machine.
        DeviceError: the device cannot be reached, or has no Python 3.
    """
    machine = probe_machine(require_ssh(transport))
    device = None if transport.is_bare else inventory(transport)
    obstructed = obstacles(machine)
    if device:  # it needs no space and no packages any more
        obstructed = {subject: fault for subject, fault in obstructed.items() if subject == "home"}
    findings = (*_check_machine(machine, obstructed), *_check_edgetl(machine, device, obstructed, transport.where))
    return Diagnosis(transport.where, machine, device, findings, is_usable=not obstructed)


def doctor(transport: Optional[Transport] = None) -> Union[list[Package], Diagnosis]:
    """What is installed on this machine and what is missing; with a transport, what a device is and lacks.

    Nothing is changed.

    Raises:
        OptionError: the device is a folder of this machine.
        DeviceError: the device cannot be reached, or has no Python 3.
    """
    return list_packages() if transport is None else diagnose(transport)


def _check_machine(machine: Machine, obstructed: dict[str, str]) -> Iterator[CheckResult]:
    yield CheckResult("board", machine.board or "unknown")
    system = f"{machine.system or 'unknown'}, {machine.architecture}, glibc {machine.glibc or 'unknown'}"
    yield CheckResult("system", system)
    yield CheckResult("memory", f"{machine.memory_bytes / 1e6:,.0f} MB")
    yield CheckResult("free space", f"{machine.free_bytes / 1e6:,.0f} MB", obstructed.get("free space", ""))
    yield CheckResult("home", "unusable" if machine.home_fault else "writable", obstructed.get("home", ""))
    yield CheckResult("Python", ".".join(map(str, machine.python)), obstructed.get("Python", ""))
    if machine.is_32_bit_arm:
        packages = ", ".join(sorted(machine.packages)) or "none"
        yield CheckResult("packages", packages, obstructed.get("packages", ""))
    yield _check_camera(machine)
    yield _check_edgetpu(machine)


def _check_camera(machine: Machine) -> CheckResult:
    return CheckResult(
        "camera library", machine.environment_camera or machine.camera or "missing", camera_advice(machine)
    )


def _check_edgetpu(machine: Machine) -> CheckResult:
    runtime = "missing" if machine.edgetpu_runtime is None else machine.edgetpu_runtime or "unknown"
    is_incomplete = machine.edgetpus > 0 and machine.edgetpu_runtime is None
    advice = f"install libedgetpu: {LIBEDGETPU}" if is_incomplete else ""
    return CheckResult("Edge TPU", f"{machine.edgetpus or 'none'} plugged in, runtime {runtime}", advice)


def _check_edgetl(
    machine: Machine, device: Optional[DeviceInventory], obstructed: dict[str, str], where: str
) -> Iterator[CheckResult]:
    prepare = f"edgetl prepare {where}"
    if device is None:
        yield CheckResult("edgetl", "missing", "" if obstructed else f"edgetl deploy installs it, or: {prepare}")
        advice = obstructed.get("interpreter", "" if obstructed else "installed with edgetl")
        yield CheckResult("interpreter", "missing", advice)
        return
    is_other = machine.environment not in (None, own_environment())
    advice = f"differs from edgetl here; update it: {prepare}" if is_other else ""
    yield CheckResult("edgetl", device.machine.edgetl, advice)
    interpreter = device.machine.interpreter
    yield CheckResult("interpreter", interpreter or "missing", "" if interpreter else prepare)
    yield CheckResult("runs", _running(device))


def _running(device: DeviceInventory) -> str:
    if device.running is None:
        return "nothing yet"
    service = f", as a service: {device.service.state}" if device.service else ", not as a service"
    return f"{device.running.name or 'a damaged bundle'} {device.running.digest[:12]}{service}"
