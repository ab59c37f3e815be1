"""Makes a bundle the running one of a device: verified and proven first, then switched by one rename.

A refusal, a failure or a crash leaves the former bundle running as before, or the new bundle proven and running.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from edgetl.bundle import Bundle, open_bundle, write_bundle
from edgetl.errors import BundleError, InstallError
from edgetl.learners import apply_difference
from edgetl.runtime.device.health import (
    announce_switch,
    begin_probation,
    check_health,
    go_back,
    watch_probation,
)
from edgetl.runtime.device.proof import prove, prove_slot
from edgetl.runtime.device.settings import Settings, read_settings
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.device.state_migration import Migration, migrate, migrate_back
from edgetl.runtime.device.trust import check_sequence, check_signature, record_sequence
from edgetl.runtime.inference import Replay

ANY_TARGET = "generic"
"""The target of bundles that run anywhere."""


@dataclass(frozen=True)
class Installed:
    """The result of an install."""

    digest: str
    name: str
    target: str
    bundle: str
    """The path of the running bundle; it stays the same across installs."""
    previous: Optional[str]
    """The digest of the bundle that `rollback` returns to."""
    changed: bool
    """False if this bundle was already running."""
    replay: Replay
    carried: int
    """Pictures taught here that moved to the new bundle."""
    not_carried: int
    """Pictures that stayed with the old bundle: it has another backbone, and they have no thumbnail."""
    removed: Tuple[str, ...]
    """Digests of old bundles that were removed to make room."""

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""
        return {**asdict(self), "removed": list(self.removed)}


@dataclass(frozen=True)
class RolledBack:
    """The result of a rollback."""

    digest: str
    """Of the bundle that runs again."""
    bundle: str
    """The path of the running bundle."""
    carried: int
    """Pictures taught since the switch that moved back to it."""
    not_carried: int
    """Pictures that stayed behind: the backbone is another one, and they have no thumbnail."""
    fault: str
    """Why nothing taught since could move; empty otherwise."""

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)


def install(
    source: Union[str, os.PathLike[str]],
    root: Union[str, os.PathLike[str]],
    fresh: bool = False,
    allow_downgrade: bool = False,
    difference: Optional[Path] = None,
) -> Installed:
    """Makes a bundle the running one of the device `root`, after it has proven itself there.

    The source may leave out entries that the slots contain already; it may leave out the statistics if `difference`
    is a file from which they can be computed (`edgetl.learners.difference`). What the running bundle was taught moves
    to the new one, unless `fresh`. With a health check or a service, the new bundle is watched until its probation
    ends. A device that requires signatures accepts only bundles that a trusted key signed, and none older than those
    that have run there, unless `allow_downgrade`.

    Raises:
        BundleError: the source is not a complete bundle.
        SignatureError: no trusted key signed it.
        InstallError: it may not run here, another install is running, or it failed on probation.
        CanaryError: its answers differ from those of the host that built it.
        StorageError: the disk is full or not writable.
    """
    slots = Slots(root)
    with slots.locked(in_use=[Path(source), *([difference] if difference else [])]):
        settings, former = read_settings(slots.root), slots.current
        bundle, is_stored, sequence = _admit(source, slots, settings, allow_downgrade, difference)
        with _filled_slot(slots, bundle, is_stored) as filled:
            replay = prove(filled.bundle)
            moved = Migration() if fresh else migrate(former, filled, bundle=bundle)
            check_health(settings, filled.bundle)
        slot = slots.of(bundle.digest)
        if slot != former:
            if settings.health_check or settings.run_options:
                begin_probation(slots, slot, settings.probation_seconds)
            slots.switch(slot)
        if sequence is not None:
            record_sequence(slots, sequence, allow_downgrade)
        removed = slots.prune(settings.slots)
    if slot != former:
        _announce_or_go_back(slots, settings, slot)
        if not fresh:  # what was taught while the service still ran the former bundle
            moved = migrate(former, slot, moved, bundle)
        watch_probation(slots)
    return Installed(
        digest=bundle.digest,
        name=bundle.manifest.name,
        target=bundle.manifest.target,
        bundle=str(slots.running),
        previous=slots.previous.digest if slots.previous else None,
        changed=slot != former,
        replay=replay,
        carried=moved.pictures,
        not_carried=moved.lost,
        removed=tuple(removed),
    )


def rollback(root: Union[str, os.PathLike[str]]) -> RolledBack:
    """Returns to the previous bundle and what it was taught, and teaches it the pictures taught since.

    Corrections of pictures that both bundles were taught stay with the bundle that is left, until it is pruned.
    The running bundle is kept unless the previous one is whole, proves itself, and is signed where the device requires
    it.
    Raises InstallError if there is no previous bundle, or CanaryError, BundleError or SignatureError if it may not run.
    """
    slots = Slots(root)
    with slots.locked():
        if slots.previous is not None:
            prove_slot(slots, slots.previous)
        left, slot = slots.current, slots.rollback()
    announce_switch(read_settings(slots.root), slots)
    moved = migrate_back(left, slot)
    return RolledBack(slot.digest, str(slots.running), moved.pictures, moved.lost, moved.fault)


def _admit(
    source: Union[str, os.PathLike[str]],
    slots: Slots,
    settings: Settings,
    allow_downgrade: bool,
    difference: Optional[Path],
) -> Tuple[Bundle, bool, Optional[int]]:
    """Opens the source and refuses all that can be refused before a byte is written.

    Returns the bundle; whether its slot already contains it, undamaged and with the same signature; and its sequence
    number, None if the device requires no signatures.
    """
    stored = _StoredBundles(slots)
    bundle = open_bundle(source, _AvailableContents(stored, difference))
    _check_target(bundle, stored, settings)
    sequence = _check_signature(slots, bundle, allow_downgrade)
    slots.require_space(_size_bytes(bundle, slots.current))
    held = stored.open(slots.of(bundle.digest))
    return bundle, held is not None and held.signature == bundle.signature, sequence


class _StoredBundles:
    """The bundles of the slots, each opened at most once and only when needed."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._opened: Dict[Slot, Optional[Bundle]] = {}

    @property
    def current(self) -> Optional[Bundle]:
        """The running bundle; None if there is none, or if it is damaged."""
        return self.open(self._slots.current)

    def all(self) -> List[Bundle]:
        """Every undamaged bundle."""
        return [bundle for bundle in map(self.open, self._slots.all()) if bundle is not None]

    def open(self, slot: Optional[Slot]) -> Optional[Bundle]:
        """The bundle of a slot; None if there is none, or if it is damaged."""
        if slot is None or not slot.folder.is_dir():
            return None
        if slot not in self._opened:
            self._opened[slot] = self._open(slot)
        return self._opened[slot]

    def _open(self, slot: Slot) -> Optional[Bundle]:
        try:
            bundle = open_bundle(slot.bundle)
        except BundleError:
            return None
        return bundle if bundle.digest == slot.digest else None


class _AvailableContents(Mapping[str, bytes]):
    """Contents of entries by SHA-256: those in the slots, and what a difference makes of them.

    The slots are read only when a bundle leaves an entry out.
    """

    def __init__(self, stored: _StoredBundles, difference: Optional[Path]) -> None:
        self._stored = stored
        self._difference = difference
        self._contents: Optional[Dict[str, bytes]] = None

    def __getitem__(self, sha256: str) -> bytes:
        return self._load()[sha256]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def _load(self) -> Dict[str, bytes]:
        if self._contents is None:
            self._contents = {
                bundle.manifest.entries[name]["sha256"]: bundle.read(name)
                for bundle in self._stored.all()
                for name in bundle.names
            }
            if self._contents and self._difference is not None:
                self._contents.update(apply_difference(self._contents, _read(self._difference)))
        return self._contents


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}; send it again") from error


def _check_target(bundle: Bundle, stored: _StoredBundles, settings: Settings) -> None:
    wanted = bundle.manifest.target
    target = settings.target or (stored.current.manifest.target if stored.current else ANY_TARGET)
    if ANY_TARGET not in (wanted, target) and wanted != target:
        raise InstallError(
            f"'{bundle.manifest.name}' was built for {wanted}, and this device is {target}; build it with --target "
            f"{target}, or if the device has changed: python -m edgetl.runtime configure --target {wanted}"
        )


def _check_signature(slots: Slots, bundle: Bundle, allow_downgrade: bool) -> Optional[int]:
    """Returns the bundle's sequence number; None if the device requires no signatures."""
    sequence = check_signature(slots, bundle)
    if sequence is not None and not allow_downgrade:
        check_sequence(slots, bundle, sequence)
    return sequence


def _size_bytes(bundle: Bundle, former: Optional[Slot]) -> int:
    """The size of the new slot at most, with the state that moves to it."""
    taught = sum(path.stat().st_size for path in former.state.glob("*")) if former else 0
    return taught + sum(int(entry["size"]) for entry in bundle.manifest.entries.values())


@contextlib.contextmanager
def _filled_slot(slots: Slots, bundle: Bundle, is_stored: bool) -> Iterator[Slot]:
    """The slot of a bundle: a new one, or the existing one, which is repaired unless the bundle `is_stored` there."""
    slot = slots.of(bundle.digest)
    if not slot.folder.is_dir():
        with slots.adding(bundle.digest) as slot:
            write_bundle(slot.bundle, bundle)
            yield slot
        return
    if not is_stored:
        write_bundle(slot.bundle, bundle)
    yield slot


def _announce_or_go_back(slots: Slots, settings: Settings, slot: Slot) -> None:
    try:
        announce_switch(settings, slots)
    except InstallError as error:
        go_back(slots, slot, str(error))
