"""Leaves out of a bundle what a device already has, so that little has to be sent.

Entries that a slot of the device holds are omitted. Statistics are large and change with every picture; of those, a
difference is sent if this host still has statistics that it sent to the device before.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from edgetl.bundle import STATISTICS, Bundle, open_bundle, write_bundle
from edgetl.deployment.answers import parse
from edgetl.deployment.transport import read_json_object
from edgetl.durable import make_folder, replace_file
from edgetl.errors import DeviceError, IntegrityError, OptionError, StorageError
from edgetl.learners import encode_difference
from edgetl.runtime.system import cache_folder

KEPT_STATISTICS = 16
"""How many statistics of bundles that were sent are kept, the latest ones."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Payload:
    """The files that bring a bundle to a device: `python -m edgetl.runtime install BUNDLE --difference=DIFFERENCE`."""

    bundle: Path
    """A bundle without the entries that the device has."""
    difference: Optional[Path] = None
    """Turns statistics that the device has into the bundle's; None if the bundle contains them or the device has them.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        """The one or two files."""
        return (self.bundle,) if self.difference is None else (self.bundle, self.difference)

    @property
    def size_bytes(self) -> int:
        """Total size of the files."""
        return sum(path.stat().st_size for path in self.files)

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        difference = None if self.difference is None else str(self.difference)
        return {"bundle": str(self.bundle), "difference": difference, "size_bytes": self.size_bytes}


def trim(bundle: Path, status: Union[str, bytes], folder: Path) -> Payload:
    """Write what a device lacks of a bundle into a new or empty folder, to be transferred by other means.

    `status` is the output of `python -m edgetl.runtime status --json` on the device.

    Raises:
        BundleError: the bundle is incomplete or damaged.
        OptionError: the status cannot be read, or the folder is not empty.
        StorageError: the folder cannot be written.
    """
    opened, held = open_bundle(bundle), _read_slots(status)
    make_folder(folder)
    if any(folder.iterdir()):
        raise OptionError(f"{folder} is not empty; choose a new or an empty folder")
    payload = write_payload(opened, held, folder)
    remember(opened)
    return payload


def write_payload(bundle: Bundle, slots: Iterable[Mapping[str, str]], folder: Path) -> Payload:
    """Write into a folder what a device lacks of a bundle.

    `slots` are the device's slots: the SHA-256 of each entry, by its name.
    """
    slots = list(slots)
    held = {digest for entries in slots for digest in entries.values()}
    named = {entries[STATISTICS] for entries in slots if STATISTICS in entries}
    bases = {digest for digest in named if _DIGEST.fullmatch(digest)}  # else it could name any file of this host
    path = _write_difference(bundle, held, bases, folder / "difference")
    if path is not None:
        held.add(_statistics_digest(bundle))
    return Payload(write_bundle(folder / "lacking.edgetl", bundle, at_hand=held), path)


def remember(bundle: Bundle) -> None:
    """Keep the statistics of a bundle that was sent, so that later bundles can be sent as a difference."""
    if STATISTICS not in bundle:
        return
    with contextlib.suppress(StorageError, OSError):  # without them, later statistics are sent in full
        make_folder(_folder())
        replace_file(_folder() / _statistics_digest(bundle), bundle.read(STATISTICS))
        for path in sorted(_folder().iterdir(), key=lambda path: -path.stat().st_mtime)[KEPT_STATISTICS:]:
            path.unlink()


@dataclass(frozen=True)
class _Slot:
    """The part of a slot's status that matters here; the slot of a damaged bundle has no entries."""

    entries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Status:
    """The part of a device's status that matters here."""

    slots: tuple[_Slot, ...]


def _read_slots(status: Union[str, bytes]) -> list[dict[str, str]]:
    text = status.decode(errors="replace") if isinstance(status, bytes) else status
    try:
        return [slot.entries for slot in parse(_Status, read_json_object("the device", text), "the device").slots]
    except DeviceError as error:
        raise OptionError(
            "invalid status: expected the output of python -m edgetl.runtime status --json on the device "
            f"({str(error).partition('; ')[0]})"
        ) from None


def _write_difference(bundle: Bundle, held: set[str], bases: set[str], path: Path) -> Optional[Path]:
    if STATISTICS not in bundle or _statistics_digest(bundle) in held:
        return None
    for base in sorted(bases):
        with contextlib.suppress(OSError, IntegrityError):  # not kept, or damaged
            packed = encode_difference((_folder() / base).read_bytes(), bundle.read(STATISTICS))
            if packed is not None and len(packed) < len(bundle.read(STATISTICS)) / 2:
                path.write_bytes(packed)
                return path
    return None


def _statistics_digest(bundle: Bundle) -> str:
    return str(bundle.manifest.entries[STATISTICS]["sha256"])


def _folder() -> Path:
    return cache_folder() / "statistics"
