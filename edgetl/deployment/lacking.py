"""Hides how little of a bundle has to be sent to a device that has similar ones; `deploy` calls it.

What the device holds is left out. Statistics are large and change with every picture; of those, what is between them
and some that this host has sent before is enough.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from edgetl.bundle import Bundle, write_bundle
from edgetl.durable import make_folder, replace_file
from edgetl.errors import IntegrityError, StorageError
from edgetl.learners.difference import difference
from edgetl.runtime.folders import cache_folder
from edgetl.runtime.knowledge import STATISTICS

KEPT = 16
"""Statistics of so many bundles that were sent are kept, the latest."""


def write_lacking(bundle: Bundle, inventory: Mapping[str, Any], folder: Path) -> tuple[Path, Optional[Path]]:
    """Two files in a folder: what a device of this inventory lacks of a bundle, and what leads to its statistics.

    The second is None where the first holds the statistics, or the device has them.
    """
    entries = [slot["entries"] for slot in inventory["slots"] if "entries" in slot]
    held = {digest for listed in entries for digest in listed.values()}
    bases = {listed[STATISTICS] for listed in entries if STATISTICS in listed}
    path = _write_difference(bundle, held, bases, folder / "difference")
    if path is not None:
        held.add(_digest(bundle))
    return write_bundle(folder / "lacking.edgetl", bundle, at_hand=held), path


def remember(bundle: Bundle) -> None:
    """Keeps a bundle's statistics, so that the next ones can be sent by what is between them."""
    if STATISTICS not in bundle:
        return
    with contextlib.suppress(StorageError, OSError):  # they may be sent whole as well
        make_folder(_folder())
        replace_file(_folder() / _digest(bundle), bundle.read(STATISTICS))
        for path in sorted(_folder().iterdir(), key=lambda path: -path.stat().st_mtime)[KEPT:]:
            path.unlink()


def _write_difference(bundle: Bundle, held: set[str], bases: set[str], path: Path) -> Optional[Path]:
    if STATISTICS not in bundle or _digest(bundle) in held:
        return None
    for base in sorted(bases):
        with contextlib.suppress(OSError, IntegrityError):  # what was kept may be damaged
            packed = difference((_folder() / base).read_bytes(), bundle.read(STATISTICS))
            if packed is not None and len(packed) < len(bundle.read(STATISTICS)) / 2:
                path.write_bytes(packed)
                return path
    return None


def _digest(bundle: Bundle) -> str:
    return str(bundle.manifest.entries[STATISTICS]["sha256"])


def _folder() -> Path:
    return cache_folder() / "statistics"
