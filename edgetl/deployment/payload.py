"""Hides how little of a bundle has to get to a device that has similar ones; `deploy` and `trim` call it.

What the device holds is left out. Statistics are large and change with every picture; of those, what is between them
and some that this host has sent before is enough.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from edgetl.bundle import STATISTICS, Bundle, open_bundle, write_bundle
from edgetl.durable import make_folder, replace_file
from edgetl.errors import IntegrityError, OptionError, StorageError
from edgetl.learners import encode_difference
from edgetl.runtime.system import cache_folder

KEPT = 16
"""Statistics of so many bundles that were sent are kept, the latest."""


@dataclass(frozen=True)
class Lacking:
    """The files that a device takes for a bundle: `python -m edgetl.runtime install BUNDLE --difference=DIFFERENCE`."""

    bundle: Path
    """A bundle that leaves out what the device holds."""
    difference: Optional[Path] = None
    """What leads to the bundle's statistics; None where it holds them, or the device does."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The one or two files."""
        return (self.bundle,) if self.difference is None else (self.bundle, self.difference)

    @property
    def size_bytes(self) -> int:
        """Their size together."""
        return sum(path.stat().st_size for path in self.files)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        leading = None if self.difference is None else str(self.difference)
        return {"bundle": str(self.bundle), "difference": leading, "size_bytes": self.size_bytes}


def trim(bundle: Path, status: Union[str, bytes], folder: Path) -> Lacking:
    """Write what a device lacks of a bundle into a new or empty folder, for whatever brings it there.

    `status` is what `python -m edgetl.runtime status --json` says on the device.

    Raises:
        BundleError: the bundle is not whole.
        OptionError: the status is none, or the folder holds something.
        StorageError: the folder cannot be written.
    """
    opened, inventory = open_bundle(bundle), _read_status(status)
    make_folder(folder)
    if any(folder.iterdir()):
        raise OptionError(f"{folder} holds something already; give a new or an empty folder")
    lacking = write_lacking(opened, inventory, folder)
    remember(opened)
    return lacking


def write_lacking(bundle: Bundle, inventory: Mapping[str, Any], folder: Path) -> Lacking:
    """Writes into a folder what a device of this inventory lacks of a bundle."""
    entries = [slot["entries"] for slot in inventory["slots"] if "entries" in slot]
    held = {digest for listed in entries for digest in listed.values()}
    bases = {listed[STATISTICS] for listed in entries if STATISTICS in listed}
    path = _write_difference(bundle, held, bases, folder / "difference")
    if path is not None:
        held.add(_digest(bundle))
    return Lacking(write_bundle(folder / "lacking.edgetl", bundle, at_hand=held), path)


def remember(bundle: Bundle) -> None:
    """Keeps a bundle's statistics, so that the next ones can be sent by what is between them."""
    if STATISTICS not in bundle:
        return
    with contextlib.suppress(StorageError, OSError):  # they may be sent whole as well
        make_folder(_folder())
        replace_file(_folder() / _digest(bundle), bundle.read(STATISTICS))
        for path in sorted(_folder().iterdir(), key=lambda path: -path.stat().st_mtime)[KEPT:]:
            path.unlink()


def _read_status(status: Union[str, bytes]) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        told = json.loads(status)
        if isinstance(told, dict) and isinstance(told.get("slots"), list) and all(map(_is_slot, told["slots"])):
            return told
    raise OptionError(
        "this status is not what a device tells of itself; on the device: python -m edgetl.runtime status --json"
    )


def _is_slot(told: object) -> bool:
    entries = told.get("entries", {}) if isinstance(told, dict) else None
    return isinstance(entries, dict) and all(isinstance(digest, str) for digest in entries.values())


def _write_difference(bundle: Bundle, held: set[str], bases: set[str], path: Path) -> Optional[Path]:
    if STATISTICS not in bundle or _digest(bundle) in held:
        return None
    for base in sorted(bases):
        with contextlib.suppress(OSError, IntegrityError):  # what was kept may be damaged
            packed = encode_difference((_folder() / base).read_bytes(), bundle.read(STATISTICS))
            if packed is not None and len(packed) < len(bundle.read(STATISTICS)) / 2:
                path.write_bytes(packed)
                return path
    return None


def _digest(bundle: Bundle) -> str:
    return str(bundle.manifest.entries[STATISTICS]["sha256"])


def _folder() -> Path:
    return cache_folder() / "statistics"
