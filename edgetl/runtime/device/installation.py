"""Hides how a bundle becomes the one that a device runs: proven here first, then switched to by one rename.

`python -m edgetl.runtime install` and a deployment call it. Whatever refuses, fails or kills it leaves what runs
as it was, or the new bundle proven and running.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple, Union

from edgetl.bundle import Bundle, open_bundle, write_bundle
from edgetl.bundle.signing import trusted_keys, verify
from edgetl.errors import BundleError, CanaryError, InstallError, IntegrityError, SignatureError
from edgetl.learners import apply_difference
from edgetl.runtime.device.health import begin_probation, check_health, go_back, tell_switch, watch_probation
from edgetl.runtime.device.settings import Settings, read_settings
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.device.state_migration import Carried, carry, carry_back
from edgetl.runtime.inference.canaries import Replay

ANY_TARGET = "generic"
PROOF_SECONDS = 600
"""How long a device may take over the canaries before the bundle counts as one that hangs."""


@dataclass(frozen=True)
class Installed:
    """A bundle that runs."""

    digest: str
    name: str
    target: str
    bundle: str
    """The path to run it by; it stays the same over installs."""
    previous: Optional[str]
    """The digest of the bundle that `rollback` goes back to."""
    changed: bool
    """False where this very bundle ran already."""
    replay: Replay
    carried: int
    """Pictures that were taught here and that the new bundle has learned."""
    not_carried: int
    """Pictures that stayed behind, with the old bundle: its backbone was another, and they have no thumbnail."""
    removed: Tuple[str, ...]
    """Digests of old bundles that made room."""

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "removed": list(self.removed)}


@dataclass(frozen=True)
class RolledBack:
    """A bundle that runs again."""

    digest: str
    bundle: str
    """The path to run it by."""
    carried: int
    """Pictures that were taught since, and that it has learned."""
    not_carried: int
    """Pictures that stayed behind: the backbone is another, and they have no thumbnail."""
    fault: str
    """Why nothing that was taught since could be carried back; else empty."""

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def install(
    source: Union[str, os.PathLike[str]],
    root: Union[str, os.PathLike[str]],
    fresh: bool = False,
    allow_downgrade: bool = False,
    difference: Optional[Path] = None,
) -> Installed:
    """Makes a bundle the one that the device of `root` runs, once it has proven itself here.

    The source may leave out what the slots hold already, and the statistics where `difference` is a file that leads to
    them from some that the slots hold (`edgetl.learners.difference`). What was taught to the bundle that runs moves
    along, unless `fresh`. Where there is a health check or a service, the new bundle is watched until its probation
    ends. A device
    that trusts keys takes only bundles that one of them has signed, and none that is older than what it runs, unless
    `allow_downgrade`.
    Raises BundleError where the source is not whole, SignatureError where nobody trusted vouches for it; InstallError
    where it may not run here or another install is at work, CanaryError where it answers otherwise than where it was
    built; StorageError.
    """
    slots = Slots(root)
    with slots.locked():
        settings, former = read_settings(slots.root), slots.current
        bundle = _open(source, slots, difference)
        _require_admissible(bundle, slots, settings, allow_downgrade)
        with _filled(slots, bundle) as filled:
            replay = prove(filled.bundle)
            carried = Carried() if fresh else carry(former, filled, Carried())
            check_health(settings, filled.bundle)
        slot = slots.of(bundle.digest)
        if slot != former:
            if settings.health_check or settings.run_options:
                begin_probation(slots, slot, settings.probation_seconds)
            slots.switch(slot)
        removed = slots.prune(settings.slots)
    if slot != former:
        _settle(slots, settings, slot)
        carried = carried if fresh else carry(former, slot, carried)
        watch_probation(slots)
    return Installed(
        digest=bundle.digest,
        name=bundle.manifest.name,
        target=bundle.manifest.target,
        bundle=str(slots.running),
        previous=slots.previous.digest if slots.previous else None,
        changed=slot != former,
        replay=replay,
        carried=carried.pictures,
        not_carried=carried.lost,
        removed=tuple(removed),
    )


def rollback(root: Union[str, os.PathLike[str]]) -> RolledBack:
    """Goes back to the bundle that ran before, with what had been taught to it; what was taught since is learned anew.

    Corrections of what both had been taught stay with the bundle that is left, until that is pruned. Raises
    InstallError where there is none to go back to.
    """
    slots = Slots(root)
    with slots.locked():
        left, slot = slots.current, slots.rollback()
    tell_switch(read_settings(slots.root), slots)
    carried = carry_back(left, slot)
    return RolledBack(slot.digest, str(slots.running), carried.pictures, carried.lost, carried.fault)


def prove(bundle: Path) -> Replay:
    """Replays the canaries in a process of its own: a model may crash or hang the interpreter.

    Raises CanaryError where they do not answer, or not as where the bundle was built.
    """
    command = [sys.executable, "-m", "edgetl.runtime", "prove", str(bundle), "--json"]
    try:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROOF_SECONDS)
    except subprocess.TimeoutExpired:
        raise CanaryError(f"the model gave no answers within {PROOF_SECONDS} seconds; build it smaller") from None
    if ran.returncode < 0:
        raise CanaryError(f"the model crashed the interpreter (signal {-ran.returncode}); build it for this device")
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise CanaryError(said[-1].partition("edgetl: ")[2] or said[-1])
    return Replay(**json.loads(ran.stdout))


def _settle(slots: Slots, settings: Settings, slot: Slot) -> None:
    try:
        tell_switch(settings, slots)
    except InstallError as error:
        go_back(slots, slot, str(error))


@contextlib.contextmanager
def _filled(slots: Slots, bundle: Bundle) -> Iterator[Slot]:
    """The slot of a bundle: a new one, or the one that is there already, mended where it was damaged."""
    slot = slots.of(bundle.digest)
    if not slot.folder.is_dir():
        with slots.adding(bundle.digest) as slot:
            write_bundle(slot.bundle, bundle)
            yield slot
        return
    held = _opened(slot)
    if held is None or held.signature != bundle.signature:
        write_bundle(slot.bundle, bundle)
    yield slot


def _open(source: Union[str, os.PathLike[str]], slots: Slots, difference: Optional[Path]) -> Bundle:
    try:
        return open_bundle(source)
    except IntegrityError:
        at_hand = _contents_at_hand(slots)
        if not at_hand:
            raise
    if difference is not None:
        at_hand.update(apply_difference(at_hand, _read(difference)))
    return open_bundle(source, at_hand)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error


def _contents_at_hand(slots: Slots) -> Dict[str, bytes]:
    """What the slots hold, by SHA-256: a source may leave it out."""
    opened = filter(None, map(_opened, slots.all()))
    return {bundle.manifest.entries[name]["sha256"]: bundle.read(name) for bundle in opened for name in bundle.names}


def _opened(slot: Optional[Slot]) -> Optional[Bundle]:
    """The bundle of a slot; None where there is none, or it was damaged."""
    with contextlib.suppress(BundleError):
        bundle = open_bundle(slot.bundle) if slot else None
        return bundle if bundle and slot and bundle.digest == slot.digest else None
    return None


def _require_admissible(bundle: Bundle, slots: Slots, settings: Settings, allow_downgrade: bool) -> None:
    """All that can be refused before a byte is written. Raises InstallError, SignatureError, StorageError."""
    running = _opened(slots.current)
    _check_target(bundle, settings, running)
    _check_signature(bundle, slots, running, allow_downgrade)
    slots.require_space(_size_bytes(bundle, slots.current))


def _check_target(bundle: Bundle, settings: Settings, running: Optional[Bundle]) -> None:
    wanted = bundle.manifest.target
    target = settings.target or (running.manifest.target if running else ANY_TARGET)
    if ANY_TARGET not in (wanted, target) and wanted != target:
        raise InstallError(
            f"'{bundle.manifest.name}' was built for {wanted}, and this device is {target}; build it with --target "
            f"{target}, or if the device has changed: python -m edgetl.runtime configure --target {wanted}"
        )


def _check_signature(bundle: Bundle, slots: Slots, running: Optional[Bundle], allow_downgrade: bool) -> None:
    keys = trusted_keys(slots.keys)
    if not keys:
        return
    sequence = verify(bundle, keys)
    lowest = 0
    with contextlib.suppress(SignatureError):  # what runs may be from before the keys were trusted
        lowest = verify(running, keys) if running else 0
    if sequence < lowest and not allow_downgrade:
        raise InstallError(
            f"'{bundle.manifest.name}' was signed as number {sequence}, and number {lowest} runs here; sign a newer "
            "one, go back with rollback, or allow it: --allow-downgrade"
        )


def _size_bytes(bundle: Bundle, former: Optional[Slot]) -> int:
    """What the slot may take, with what moves to it."""
    taught = sum(path.stat().st_size for path in former.state.glob("*")) if former else 0
    return taught + sum(entry["size"] for entry in bundle.manifest.entries.values())
