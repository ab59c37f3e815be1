"""Hides what there is to say about a device: what it runs, holds and is; `status` and a deployment ask."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any, Dict, Optional, Union

from edgetl import __version__
from edgetl.bundle import open_bundle
from edgetl.bundle.signing import trusted_ids
from edgetl.errors import EdgetlError, InstallError
from edgetl.runtime.device.health import probation_seconds_left
from edgetl.runtime.device.service import describe_service
from edgetl.runtime.device.settings import Settings, read_settings
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.inference.engine import interpreters


def take_inventory(root: Union[str, os.PathLike[str]]) -> Dict[str, Any]:
    """What the device of `root` runs and holds, as JSON takes it; a bundle that was damaged has a "fault"."""
    slots = Slots(root)
    held, settings = [_describe(slot) for slot in slots.all()], read_settings(slots.root)
    return {
        "root": str(slots.root),
        "running": next((slot for slot in held if slots.current and slot["digest"] == slots.current.digest), None),
        "bundle": str(slots.running),
        "previous": slots.previous.digest if slots.previous else None,
        "probation_seconds_left": round(probation_seconds_left(slots), 1),
        "slots": held,
        "trusted_keys": trusted_ids(slots.keys),
        "settings": settings.to_dict(),
        "service": _service(slots.root, settings),
        "machine": _machine(slots.root),
    }


def _describe(slot: Slot) -> Dict[str, Any]:
    described = {"digest": slot.digest, "taught": slot.state.is_dir()}
    try:
        bundle = open_bundle(slot.bundle)
    except EdgetlError as error:
        return {**described, "fault": str(error)}
    manifest = bundle.manifest
    return {
        **described,
        "name": manifest.name,
        "target": manifest.target,
        "backbone": manifest.backbone.get("name"),
        "labels": manifest.labels,
        "signed": bool(bundle.signature),
        "entries": {name: entry["sha256"] for name, entry in sorted(manifest.entries.items())},
    }


def _service(root: Path, settings: Settings) -> Optional[Dict[str, Any]]:
    try:
        state = describe_service(root, settings)
    except InstallError as error:
        return {"state": "unknown", "fault": str(error)}
    return state.to_dict() if state else None


def _machine(root: Path) -> Dict[str, Any]:
    try:
        name, version = interpreters()[0]
        interpreter: Optional[str] = f"{name} {version}"
    except EdgetlError:
        interpreter = None
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    return {
        "edgetl": __version__,
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "board": _board(),
        "interpreter": interpreter,
        "free_bytes": shutil.disk_usage(there).free,
    }


def _board() -> Optional[str]:
    """What the firmware calls the board, such as "Raspberry Pi 4 Model B Rev 1.4"; None where it says nothing."""
    try:
        return Path("/proc/device-tree/model").read_text(errors="replace").rstrip("\0\n")
    except OSError:
        return None
