"""Hides the folder in which a device keeps its bundles, one slot each, and which of them runs; an install calls it.

    ROOT/current               -> slots/DIGEST, the one that runs
    ROOT/previous              -> slots/DIGEST, the one to go back to
    ROOT/slots/DIGEST/         bundle.edgetl, and bundle.state with what it was taught
    ROOT/incoming/             files on their way here, and ROOT/outgoing/ those on their way from here
    ROOT/keys/ID.pub           whom the device trusts; without any, everybody
    ROOT/settings.json         what its owner has decided
    ROOT/lock                  held by whoever changes any of this

A slot is made beside the others and appears when it is whole and proven. What runs changes by one rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Union

from edgetl.durable import storage_error, sync_folder
from edgetl.errors import InstallError, StorageError

CURRENT, PREVIOUS = "current", "previous"
BUNDLE, STATE = "bundle.edgetl", "bundle.state"
INCOMING, OUTGOING = "incoming", "outgoing"
INCOMING_SECONDS = 7 * 86400
"""How long a file that arrived only in part waits for the rest."""
RESERVE_BYTES = 4 * 1024 * 1024
"""What stays free on the disk beside a new slot."""


def default_root() -> Path:
    """EDGETL_ROOT, else edgetl under XDG_DATA_HOME, else ~/.local/share/edgetl."""
    if chosen := os.environ.get("EDGETL_ROOT"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgetl"


@dataclass(frozen=True)
class Slot:
    """One bundle on the device, with what was taught to it."""

    folder: Path

    @property
    def digest(self) -> str:
        """That of its bundle."""
        return self.folder.name

    @property
    def bundle(self) -> Path:
        """The bundle's file."""
        return self.folder / BUNDLE

    @property
    def state(self) -> Path:
        """The folder of what was taught; it need not be there."""
        return self.folder / STATE


class Slots:
    """The slots of one device root, which need not be there yet.

    Reading needs no lock; whoever changes anything does it within `locked`.
    """

    def __init__(self, root: Union[str, os.PathLike[str]]) -> None:
        self.root = Path(root)
        self._folder = self.root / "slots"

    @property
    def current(self) -> Optional[Slot]:
        """The slot that runs."""
        return self._linked(CURRENT)

    @property
    def previous(self) -> Optional[Slot]:
        """The slot to go back to."""
        previous = self._linked(PREVIOUS)
        return None if previous == self.current else previous

    @property
    def running(self) -> Path:
        """The bundle that runs, by a path that stays the same."""
        return self.root / CURRENT / BUNDLE

    @property
    def keys(self) -> Path:
        """The folder of the public keys that are trusted; it need not be there."""
        return self.root / "keys"

    def all(self) -> List[Slot]:
        """Every slot, the one that was made last first."""
        folders = [path for path in self._folder.glob("[!.]*") if path.is_dir()]
        return [Slot(path) for path in sorted(folders, key=lambda path: -path.stat().st_mtime_ns)]

    def of(self, digest: str) -> Slot:
        """The slot of a bundle's digest; it need not be there."""
        return Slot(self._folder / digest)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps all others from changing anything, makes the root where it is missing, and clears leftovers away.

        A lock ends with its process, however that ends. Raises InstallError where another one holds it.
        """
        with _storing(self.root):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InstallError(f"another install is at work in {self.root}; try again when it is done") from None
            self._clear_leftovers()
            yield
        finally:
            os.close(handle)

    def require_space(self, wanted_bytes: int) -> None:
        """Raises StorageError where a new slot of this size would not leave RESERVE_BYTES free."""
        free = shutil.disk_usage(self.root).free
        if free < wanted_bytes + RESERVE_BYTES:
            raise StorageError(
                f"the install takes {wanted_bytes / 1e6:.1f} MB and {RESERVE_BYTES / 1e6:.0f} MB to spare, but "
                f"{self.root} has {free / 1e6:.1f} MB free; free some space"
            )

    @contextlib.contextmanager
    def adding(self, digest: str) -> Iterator[Slot]:
        """A slot beside the others, to be filled and proven in the block; it appears at its end, or not at all."""
        beside = Slot(self._folder / f".{digest}")
        try:
            with _storing(self.root):
                beside.folder.mkdir()
            yield beside
            with _storing(self.root):
                sync_folder(beside.folder)
                os.rename(beside.folder, self.of(digest).folder)
                sync_folder(self._folder)
        finally:
            shutil.rmtree(beside.folder, ignore_errors=True)

    def switch(self, slot: Slot) -> None:
        """Makes a slot the one that runs, and the one that ran the previous one."""
        if self.current is not None and self.current != slot:
            self._link(PREVIOUS, self.current)
        self._link(CURRENT, slot)

    def rollback(self) -> Slot:
        """Makes the previous slot the one that runs, by one rename. Raises InstallError where there is none."""
        previous = self.previous
        if previous is None:
            raise InstallError(f"there is no previous bundle in {self.root} to go back to; install one")
        with _storing(self.root):
            os.replace(self.root / PREVIOUS, self.root / CURRENT)
            sync_folder(self.root)
        return previous

    def prune(self, limit: int) -> List[str]:
        """Removes the oldest slots over the limit, never those that run or ran last; returns their digests."""
        kept = {self.current, self.previous}
        removable = [slot for slot in self.all() if slot not in kept]
        removed = removable[max(0, limit - len(kept - {None})) :]
        for slot in removed:
            beside = slot.folder.with_name(f".{slot.digest}")
            with _storing(self.root):
                os.rename(slot.folder, beside)  # so that a slot is never seen half removed
            shutil.rmtree(beside, ignore_errors=True)
        return [slot.digest for slot in removed]

    def _linked(self, name: str) -> Optional[Slot]:
        try:
            folder = self._folder / Path(os.readlink(self.root / name)).name
        except OSError:
            return None
        return Slot(folder) if folder.is_dir() else None

    def _link(self, name: str, slot: Slot) -> None:
        beside = self.root / f".{name}"
        with _storing(self.root):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            os.symlink(Path(self._folder.name, slot.folder.name), beside)
            os.replace(beside, self.root / name)
            sync_folder(self.root)

    def _clear_leftovers(self) -> None:
        """What a killed install left behind, and uploads that nobody went on with."""
        for folder in self._folder.glob(".*"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (self.root / INCOMING).glob("*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - INCOMING_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _storing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(root, error) from error
