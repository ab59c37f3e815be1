"""Manages the folder in which a device keeps its bundles, one slot each, and the links to the current one.

    ROOT/current               -> slots/DIGEST, the running bundle
    ROOT/previous              -> slots/DIGEST, the bundle that a rollback returns to
    ROOT/slots/DIGEST/         bundle.edgetl, and bundle.state with what it was taught
    ROOT/incoming/             files that a host is sending
    ROOT/outgoing/             files for a host to fetch
    ROOT/keys/ID.pub           trusted keys
    ROOT/settings.json         the device's settings
    ROOT/sequences.json        the sequence number that signed bundles have reached
    ROOT/order.json            digests in the order in which they were made current, the newest last
    ROOT/ages.json             how long each file in ROOT/incoming has not changed
    ROOT/lock                  locked by the process that changes any of this

A slot is filled under a hidden name and renamed when it is complete and proven. One rename switches the bundle.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Union

from edgetl.durable import replace_file, storage_error, sync_folder
from edgetl.errors import InstallError, StorageError
from edgetl.runtime.device.ages import UnchangedFor

CURRENT, PREVIOUS = "current", "previous"
BUNDLE, STATE = "bundle.edgetl", "bundle.state"
INCOMING, OUTGOING = "incoming", "outgoing"
INCOMING_SECONDS = 7 * 86400
"""After this time without a change, counted while the machine is on, a received file is removed."""
RESERVE_BYTES = 4 * 1024 * 1024
"""Disk space that must remain free after a new slot was added."""


def default_root() -> Path:
    """EDGETL_ROOT, else edgetl under XDG_DATA_HOME, else ~/.local/share/edgetl."""
    if chosen := os.environ.get("EDGETL_ROOT"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgetl"


@dataclass(frozen=True)
class Slot:
    """One bundle on the device, with what it was taught."""

    folder: Path

    @property
    def digest(self) -> str:
        """The digest of the bundle."""
        return self.folder.name

    @property
    def bundle(self) -> Path:
        """The path of the bundle."""
        return self.folder / BUNDLE

    @property
    def state(self) -> Path:
        """The state folder, which holds what the bundle was taught. It may not exist."""
        return self.folder / STATE


class Slots:
    """The slots of one device root, which may not exist yet.

    Reading needs no lock; every change needs `locked`.
    """

    def __init__(self, root: Union[str, os.PathLike[str]]) -> None:
        self.root = Path(root)
        self._folder = self.root / "slots"

    @property
    def current(self) -> Optional[Slot]:
        """The slot of the running bundle."""
        return self._linked(CURRENT)

    @property
    def previous(self) -> Optional[Slot]:
        """The slot that a rollback returns to."""
        previous = self._linked(PREVIOUS)
        return None if previous == self.current else previous

    @property
    def running(self) -> Path:
        """The path of the running bundle; it stays the same across installs."""
        return self.root / CURRENT / BUNDLE

    @property
    def keys(self) -> Path:
        """The folder of the trusted public keys. It may not exist."""
        return self.root / "keys"

    def all(self) -> List[Slot]:
        """Every slot, the one that was last made current first, whatever the clock said then."""
        order = {digest: place for place, digest in enumerate(self._order())}
        folders = [path for path in self._folder.glob("[!.]*") if path.is_dir()]
        folders.sort(key=lambda path: (order.get(path.name, -1), path.stat().st_mtime_ns), reverse=True)
        return [Slot(path) for path in folders]

    def of(self, digest: str) -> Slot:
        """The slot for a bundle's digest. It may not exist."""
        return Slot(self._folder / digest)

    @contextlib.contextmanager
    def locked(self, in_use: Sequence[Path] = ()) -> Iterator[None]:
        """Locks the root against changes by other processes; creates it if missing, and removes leftovers.

        The lock ends with its process, even after a crash. `in_use` are received files to keep, however old they are.
        Raises InstallError if another process holds it.
        """
        with _as_storage_error(self.root):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InstallError(f"another install is running in {self.root}; try again when it is done") from None
            self._clear_leftovers(in_use)
            yield
        finally:
            os.close(handle)

    def require_space(self, needed_bytes: int) -> None:
        """Raises StorageError if a new slot of this size would leave less than RESERVE_BYTES free."""
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes + RESERVE_BYTES:
            raise StorageError(
                f"not enough space in {self.root}: the install needs {(needed_bytes + RESERVE_BYTES) / 1e6:.1f} MB, "
                f"{free / 1e6:.1f} MB are free; free some space"
            )

    @contextlib.contextmanager
    def adding(self, digest: str) -> Iterator[Slot]:
        """Yields a hidden slot to fill and prove in the block; it becomes visible at the end, or is removed."""
        hidden = Slot(self._folder / f".{digest}")
        try:
            with _as_storage_error(self.root):
                hidden.folder.mkdir()
            yield hidden
            with _as_storage_error(self.root):
                sync_folder(hidden.folder)
                os.rename(hidden.folder, self.of(digest).folder)
                sync_folder(self._folder)
        finally:
            shutil.rmtree(hidden.folder, ignore_errors=True)

    def switch(self, slot: Slot) -> None:
        """Makes a slot the current one, and the current one the previous one."""
        if self.current is not None and self.current != slot:
            self._link(PREVIOUS, self.current)
        self._record_order(slot)
        self._link(CURRENT, slot)

    def rollback(self) -> Slot:
        """Makes the previous slot the current one, by one rename. Raises InstallError if there is none."""
        previous = self.previous
        if previous is None:
            raise InstallError(f"there is no previous bundle in {self.root} to go back to; install another bundle")
        with _as_storage_error(self.root):
            os.replace(self.root / PREVIOUS, self.root / CURRENT)
            sync_folder(self.root)
        return previous

    def prune(self, limit: int) -> List[str]:
        """Removes the oldest slots over the limit, but not the current and previous one; returns their digests."""
        kept = {self.current, self.previous}
        removable = [slot for slot in self.all() if slot not in kept]
        removed = removable[max(0, limit - len(kept - {None})) :]
        for slot in removed:
            hidden = slot.folder.with_name(f".{slot.digest}")
            with _as_storage_error(self.root):
                os.rename(slot.folder, hidden)  # a slot must not be visible half removed
            shutil.rmtree(hidden, ignore_errors=True)
        return [slot.digest for slot in removed]

    def _linked(self, name: str) -> Optional[Slot]:
        try:
            folder = self._folder / Path(os.readlink(self.root / name)).name
        except OSError:
            return None
        return Slot(folder) if folder.is_dir() else None

    def _link(self, name: str, slot: Slot) -> None:
        hidden = self.root / f".{name}"
        with _as_storage_error(self.root):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(hidden)
            os.symlink(Path(self._folder.name, slot.folder.name), hidden)
            os.replace(hidden, self.root / name)
            sync_folder(self.root)

    def _order(self) -> List[str]:
        try:
            return [str(digest) for digest in json.loads((self.root / _ORDER).read_bytes())]
        except (OSError, ValueError, TypeError, RecursionError):
            return []

    def _record_order(self, slot: Slot) -> None:
        older = [digest for digest in self._order() if digest != slot.digest and self.of(digest).folder.is_dir()]
        replace_file(self.root / _ORDER, json.dumps([*older, slot.digest]).encode())

    def _clear_leftovers(self, in_use: Sequence[Path]) -> None:
        """Removes what a killed install left behind, and abandoned uploads."""
        for folder in self._folder.glob(".*"):
            shutil.rmtree(folder, ignore_errors=True)
        ages = UnchangedFor(self.root / _AGES)
        kept = {os.path.realpath(path) for path in in_use}
        for path in ages.older_than(INCOMING_SECONDS, (self.root / INCOMING).glob("*")):
            if os.path.realpath(path) not in kept:
                with contextlib.suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


_ORDER, _AGES = "order.json", "ages.json"


@contextlib.contextmanager
def _as_storage_error(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(root, error) from error
