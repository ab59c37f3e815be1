"""Hides what a host knows of a device that serves its bundle: the memory that its kind of board has."""

from __future__ import annotations

from typing import Any, Optional

from edgetl.deployment.transport.base import Transport
from edgetl.errors import UnknownNameError
from edgetl.targets import load_target


def install_service(transport: Transport, run_options: Optional[str] = None) -> dict[str, Any]:
    """Make a service of the bundle that a device runs; one that is there is renewed. Returns its state.

    `run_options` are those of `edgetl run`; None keeps the service's, at first those of a camera. The service may take
    half of the memory that the device's target has.

    Raises:
        DeviceError: the device cannot be reached, has nothing installed, or the service does not start there.
    """
    options = [] if run_options is None else [f"--run-options={run_options}"]
    memory_bytes = _memory_bytes(transport.tell("status"))
    if memory_bytes:
        options.append(f"--memory-bytes={memory_bytes}")
    return {"where": transport.where, **transport.tell("service", *options)}


def _memory_bytes(inventory: dict[str, Any]) -> Optional[int]:
    name = inventory["settings"]["target"] or (inventory["running"] or {}).get("target")
    try:
        return load_target(name).memory_bytes if name else None
    except UnknownNameError:  # of another host's
        return None
