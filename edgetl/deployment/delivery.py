"""Deploys a bundle to one device: send what the device lacks, then let it verify the bundle and switch to it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Optional

from edgetl.bundle import open_bundle
from edgetl.deployment.answers import InstalledService, parse
from edgetl.deployment.payload import Payload, remember, write_payload
from edgetl.deployment.remote_verbs import inventory
from edgetl.deployment.transport import Transport
from edgetl.progress import Progress
from edgetl.runtime.device import Installed


@dataclass(frozen=True)
class Deployed:
    """A bundle that a device runs."""

    where: str
    installed: Installed
    """The device's answer."""
    sent_bytes: int
    """Size of the payload that the device was sent."""
    bundle_bytes: int
    seconds: float
    service: Optional[InstalledService] = None
    """The service that runs it, if one was installed with it."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return asdict(self)


def deploy(
    bundle: Path,
    transport: Transport,
    fresh: bool = False,
    allow_downgrade: bool = False,
    whole: bool = False,
    progress: Optional[Progress] = None,
) -> Deployed:
    """Make a bundle the one that a device runs, after the device has replayed its canaries.

    Only what the device lacks is sent, unless `whole`. What was taught there moves to the new bundle, unless `fresh`.
    A signed bundle that is older than the running one is refused, unless `allow_downgrade`.

    Raises:
        BundleError: the bundle is incomplete or damaged.
        DeviceError: the device cannot be reached, or refuses. It runs what it ran before.
    """
    start, opened = monotonic(), open_bundle(bundle)
    device = inventory(transport)
    options = [name for name, wanted in {"--fresh": fresh, "--allow-downgrade": allow_downgrade}.items() if wanted]
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        held = [slot.entries for slot in device.slots]
        payload = Payload(bundle) if whole else write_payload(opened, held, Path(folder))
        sent = [transport.send(path, device.root, progress) for path in payload.files]
        sent_bytes = payload.size_bytes
    if progress:
        progress(f"{transport.where}: proving", 0, 1)
    try:
        answer = transport.call("install", sent[0], *(f"--difference={path}" for path in sent[1:]), *options)
    finally:
        for name in sent:
            transport.remove(name)
    remember(opened)
    if progress:
        progress(f"{transport.where}: proving", 1, 1)
    return Deployed(
        where=transport.where,
        installed=parse(Installed, answer, transport.where),
        sent_bytes=sent_bytes,
        bundle_bytes=bundle.stat().st_size,
        seconds=round(monotonic() - start, 2),
    )
