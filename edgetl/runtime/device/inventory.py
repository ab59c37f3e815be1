"""Describes a device: what it runs and stores, its settings, its service and its machine."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

from edgetl import __version__
from edgetl.bundle import open_bundle
from edgetl.bundle.signing import trusted_ids
from edgetl.errors import EdgetlError, InstallError, IntegrityError
from edgetl.runtime.device.health import probation_seconds_left
from edgetl.runtime.device.proof import prove_slot
from edgetl.runtime.device.service import ServiceState, describe_service
from edgetl.runtime.device.settings import Settings, read_settings
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.inference import interpreters
from edgetl.runtime.system import board_name


@dataclass(frozen=True)
class StoredBundle:
    """A bundle in a slot."""

    digest: str
    taught: bool
    """Whether the slot has a state folder."""
    name: str
    target: str
    backbone: Optional[str]
    labels: Tuple[str, ...]
    """Of the bundle as shipped, without what it was taught."""
    signed: bool
    """Whether it has a signature; nothing has verified it."""
    entries: Dict[str, str]
    """The SHA-256 of each entry, by the entry's name."""

    def to_dict(self) -> Dict[str, Any]:
        """The description as a JSON object."""
        return {**asdict(self), "labels": list(self.labels)}


@dataclass(frozen=True)
class DamagedBundle:
    """A slot whose bundle cannot be opened."""

    digest: str
    taught: bool
    fault: str
    """Why it cannot be opened or, if it was verified, why it may not run."""

    def to_dict(self) -> Dict[str, Any]:
        """The description as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class UnreachableService:
    """A service whose state systemd does not report."""

    fault: str

    def to_dict(self) -> Dict[str, Any]:
        """The description as a JSON object."""
        return {"state": "unknown", "fault": self.fault}


@dataclass(frozen=True)
class Machine:
    """The device's hardware and software."""

    edgetl: str
    """The version of edgetl."""
    python: str
    architecture: str
    board: Optional[str]
    interpreter: Optional[str]
    """Name and version of the preferred TFLite interpreter; None if none is installed."""
    free_bytes: int
    """Free disk space at the device root."""


@dataclass(frozen=True)
class Inventory:
    """Everything that a host needs to know about a device before it deploys."""

    root: str
    running: Union[StoredBundle, DamagedBundle, None]
    bundle: str
    """The path of the running bundle; it stays the same across installs."""
    previous: Optional[str]
    """The digest of the bundle that a rollback returns to."""
    probation_seconds_left: float
    slots: Tuple[Union[StoredBundle, DamagedBundle], ...]
    trusted_keys: Tuple[str, ...]
    settings: Settings
    service: Union[ServiceState, UnreachableService, None]
    machine: Machine

    def to_dict(self) -> Dict[str, Any]:
        """The inventory as a JSON object."""
        return {
            **vars(self),
            "running": self.running and self.running.to_dict(),
            "slots": [slot.to_dict() for slot in self.slots],
            "trusted_keys": list(self.trusted_keys),
            "settings": self.settings.to_dict(),
            "service": self.service and self.service.to_dict(),
            "machine": asdict(self.machine),
        }


def take_inventory(root: Union[str, os.PathLike[str]], verify: bool = False) -> Inventory:
    """Describes the device of a root.

    With `verify`, a bundle also counts as damaged if it has no valid signature where the device requires one, or if its
    canaries fail. Raises OptionError or KeyFileError if the settings or the trusted keys cannot be read.
    """
    slots = Slots(root)
    stored, settings = tuple(_describe(slots, slot, verify) for slot in slots.all()), read_settings(slots.root)
    return Inventory(
        root=str(slots.root),
        running=next((slot for slot in stored if slots.current and slot.digest == slots.current.digest), None),
        bundle=str(slots.running),
        previous=slots.previous.digest if slots.previous else None,
        probation_seconds_left=round(probation_seconds_left(slots), 1),
        slots=stored,
        trusted_keys=tuple(trusted_ids(slots.keys)),
        settings=settings,
        service=_service(slots.root, settings),
        machine=_machine(slots.root),
    )


def _describe(slots: Slots, slot: Slot, verify: bool) -> Union[StoredBundle, DamagedBundle]:
    try:
        bundle = open_bundle(slot.bundle)
        if bundle.digest != slot.digest:
            raise IntegrityError(f"it contains another bundle, {bundle.digest}; install the right one again")
        if verify:
            prove_slot(slots, slot)
    except EdgetlError as error:
        return DamagedBundle(slot.digest, slot.state.is_dir(), str(error))
    manifest = bundle.manifest
    return StoredBundle(
        digest=slot.digest,
        taught=slot.state.is_dir(),
        name=manifest.name,
        target=manifest.target,
        backbone=manifest.backbone.get("name"),
        labels=tuple(manifest.labels),
        signed=bool(bundle.signature),
        entries={name: entry["sha256"] for name, entry in sorted(manifest.entries.items())},
    )


def _service(root: Path, settings: Settings) -> Union[ServiceState, UnreachableService, None]:
    try:
        return describe_service(root, settings)
    except InstallError as error:
        return UnreachableService(str(error))


def _machine(root: Path) -> Machine:
    try:
        name, version = interpreters()[0]
        interpreter: Optional[str] = f"{name} {version}"
    except EdgetlError:
        interpreter = None
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    return Machine(
        edgetl=__version__,
        python=platform.python_version(),
        architecture=platform.machine(),
        board=board_name(),
        interpreter=interpreter,
        free_bytes=shutil.disk_usage(existing).free,
    )
