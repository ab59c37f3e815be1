"""Hides what can be told of a device before anything is changed there; `edgetl doctor HOST` calls it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Optional

from edgetl.deployment.provisioning.environment import Machine, look_at, obstacles, own_environment
from edgetl.deployment.transport.ssh import SshTransport


@dataclass(frozen=True)
class Finding:
    """One thing that a device has, or lacks."""

    name: str
    found: str
    advice: str = ""
    """What mends it; empty where nothing has to be done."""


@dataclass(frozen=True)
class Examination:
    """What a device is and has, and what a deployment will find."""

    where: str
    machine: Machine
    device: Optional[dict[str, Any]]
    """What edgetl says there, as `edgetl devices` tells it; None where there is no edgetl."""
    findings: tuple[Finding, ...]
    is_usable: bool
    """Whether a deployment can make it run a bundle."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def examine(transport: SshTransport) -> Examination:
    """What first contact would find on a device, and do there. Nothing is changed.

    Raises:
        DeviceError: it cannot be reached, or has no Python 3.
    """
    machine = look_at(transport)
    device = None if transport.is_bare else transport.tell("status")
    hindered = {} if device else obstacles(machine)
    findings = (*_machine(machine, hindered), *_edgetl(machine, device, hindered, transport.where))
    return Examination(transport.where, machine, device, findings, is_usable=not hindered)


def _machine(machine: Machine, hindered: dict[str, str]) -> Iterator[Finding]:
    yield Finding("board", machine.board or "unknown")
    system = f"{machine.system or 'unknown'}, {machine.architecture}, glibc {machine.glibc or 'unknown'}"
    yield Finding("system", system)
    yield Finding("memory", f"{machine.memory_bytes / 1e6:,.0f} MB")
    yield Finding("free space", f"{machine.free_bytes / 1e6:,.0f} MB", hindered.get("free space", ""))
    yield Finding("Python", ".".join(map(str, machine.python)), hindered.get("Python", ""))
    if machine.is_32_bit_arm:
        yield Finding("packages", ", ".join(sorted(machine.packages)) or "none", hindered.get("packages", ""))
    yield _edgetpu(machine)


def _edgetpu(machine: Machine) -> Finding:
    runtime = machine.edgetpu_runtime
    found = f"{machine.edgetpus or 'none'} plugged in, runtime {'missing' if runtime is None else runtime or 'unknown'}"
    lacks_runtime = machine.edgetpus and runtime is None
    return Finding("Edge TPU", found, "install libedgetpu: github.com/feranick/libedgetpu" if lacks_runtime else "")


def _edgetl(
    machine: Machine, device: Optional[dict[str, Any]], hindered: dict[str, str], where: str
) -> Iterator[Finding]:
    if device is None:
        yield Finding("edgetl", "missing", "" if hindered else f"a deployment brings it, or: edgetl prepare {where}")
        yield Finding("interpreter", "missing", hindered.get("interpreter", "" if hindered else "it comes with edgetl"))
        return
    version, interpreter = device["machine"]["edgetl"], device["machine"]["interpreter"]
    is_other = machine.environment not in (None, own_environment())
    advice = f"it is not the one here; renew it: edgetl prepare {where}" if is_other else ""
    yield Finding("edgetl", version, advice)
    yield Finding("interpreter", interpreter or "missing", "" if interpreter else f"edgetl prepare {where}")
    yield Finding("runs", _running(device))


def _running(device: dict[str, Any]) -> str:
    running, service = device["running"], device["service"]
    if running is None:
        return "nothing yet"
    serving = f", as a service: {service['state']}" if service else ", not as a service"
    return f"{running.get('name', 'what is damaged')} {running['digest'][:12]}{serving}"
