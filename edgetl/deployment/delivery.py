"""Hides the order in which a bundle gets to a device: ask what it has, send what it lacks, let it prove and switch."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Optional

from edgetl.bundle import open_bundle
from edgetl.deployment.payload import Lacking, remember, write_lacking
from edgetl.deployment.transport.base import Transport
from edgetl.progress import Progress


@dataclass(frozen=True)
class Deployed:
    """A bundle that a device runs."""

    where: str
    installed: dict[str, Any]
    """What the device says of it, as `edgetl.runtime.device.installation.Installed` has it."""
    sent_bytes: int
    """The size of what the device was sent: what it lacked of the bundle."""
    bundle_bytes: int
    seconds: float
    service: Optional[dict[str, Any]] = None
    """What was made of it there, as `edgetl.deployment.install_service` returns it."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def deploy(
    bundle: Path,
    transport: Transport,
    fresh: bool = False,
    allow_downgrade: bool = False,
    whole: bool = False,
    progress: Optional[Progress] = None,
) -> Deployed:
    """Make a bundle the one that a device runs, once it has proven itself there.

    Only what the device lacks of it is sent, unless it is to be sent `whole`. What was taught there moves along, unless
    `fresh`.

    Raises:
        BundleError: the bundle is not whole.
        DeviceError: the device cannot be reached, or refuses; what runs there is as it was, or went back to it.
    """
    start, opened = monotonic(), open_bundle(bundle)
    inventory = transport.tell("status")
    options = [name for name, wanted in {"--fresh": fresh, "--allow-downgrade": allow_downgrade}.items() if wanted]
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        lacking = Lacking(bundle) if whole else write_lacking(opened, inventory, Path(folder))
        sent = [transport.send(path, inventory["root"], progress) for path in lacking.files]
        sent_bytes = lacking.size_bytes
    if progress:
        progress(f"{transport.where}: proving", 0, 1)
    try:
        installed = transport.tell("install", sent[0], *(f"--difference={path}" for path in sent[1:]), *options)
    finally:
        for name in sent:
            transport.remove(name)
    remember(opened)
    if progress:
        progress(f"{transport.where}: proving", 1, 1)
    return Deployed(
        where=transport.where,
        installed=installed,
        sent_bytes=sent_bytes,
        bundle_bytes=bundle.stat().st_size,
        seconds=round(monotonic() - start, 2),
    )
