"""Hides how a device measures the bundle that it runs, for this host to estimate from."""

from __future__ import annotations

from typing import Any, Optional

from edgetl.deployment.transport.base import Transport


def bench(transport: Transport, seconds: float = 10.0, threads: Optional[int] = None) -> dict[str, Any]:
    """What `edgetl bench --json` says of the bundle that a device runs; its service pauses meanwhile.

    `edgetl.targets.store_profile` takes it.

    Raises:
        DeviceError: the device cannot be reached, has nothing installed, or its service does not go on.
    """
    options = [f"--seconds={seconds}"] + ([] if threads is None else [f"--threads={threads}"])
    return {"where": transport.where, **transport.tell("bench", *options)}
