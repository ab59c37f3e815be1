"""Runs the verbs of a device over its connection: status, teach, bench, pull, service, logs, rollback, trust."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from edgetl.bundle.signing import read_public_key
from edgetl.deployment.answers import (
    DeviceInventory,
    InstalledService,
    LogLines,
    RemovedService,
    TaughtStep,
    TrustedKeys,
    parse,
)
from edgetl.deployment.transport import Transport, connect
from edgetl.durable import make_folder, replace_file
from edgetl.errors import DataError, EdgetlError, OptionError, UnknownNameError
from edgetl.progress import Progress
from edgetl.runtime.device import RolledBack, Snapshot
from edgetl.runtime.learning import JOURNAL_FILE
from edgetl.targets import load_target

if TYPE_CHECKING:
    from edgetl.runtime.bench import Benchmark
    from edgetl.runtime.learning import Status

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Pulled:
    """A state folder on this machine with what a device was taught."""

    where: str
    state: str
    """The folder."""
    name: str
    """The name of the bundle on the device."""
    bundle: str
    """Its digest."""
    pictures: int
    thumbnails: int

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class DeviceStatus:
    """What a device is and runs, and what its running bundle knows."""

    where: str
    inventory: DeviceInventory
    learned: Optional[Status]
    """None if the device runs nothing, or its bundle is damaged."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return {"where": self.where, **self.inventory.to_dict(), "learned": self.learned and self.learned.to_dict()}


@dataclass(frozen=True)
class DeviceListing:
    """One of several devices: its `inventory`, or the `fault` that prevented an answer."""

    where: str
    inventory: Optional[DeviceInventory] = None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return {"where": self.where, **(self.inventory.to_dict() if self.inventory else {"fault": self.fault})}


def inventory(transport: Transport) -> DeviceInventory:
    """What a device runs, stores and is.

    Raises:
        DeviceError: the device cannot be reached, or has no edgetl.
    """
    return parse(DeviceInventory, transport.call("status"), transport.where)


def status(transport: Transport) -> DeviceStatus:
    """What a device runs, stores and is, and what its running bundle knows with what it was taught.

    Raises:
        DeviceError: the device cannot be reached, or has no edgetl.
    """
    from edgetl.runtime.learning import Status

    device, learned = inventory(transport), None
    if device.running and not device.running.fault:
        learned = parse(Status, transport.call("learned"), transport.where)
    return DeviceStatus(transport.where, device, learned)


def devices(where: Sequence[str], **options: Any) -> list[DeviceListing]:
    """What several devices run, store and are, in their order; a device that does not answer does not stop the others.

    `options` are those of `connect`.
    """
    return [_list_device(device, options) for device in where]


def teach(
    transport: Transport,
    label: str,
    images: Sequence[Path],
    guard: Optional[float] = None,
    thumbnails: bool = False,
    threads: Optional[int] = None,
    progress: Optional[Progress] = None,
    new_class: bool = False,
) -> TaughtStep:
    """Teach the running bundle of a device that images show a class, in one step; its service adopts the result.

    The pictures are sent in one archive, which the device removes. Without images, those of the class that the guard
    refused before are tried again. `guard`, `thumbnails`, `threads` and `new_class` are
    those of `Learner`.

    Raises:
        DataError: an image file cannot be read on this machine.
        DeviceError: the device cannot be reached, has nothing installed, or cannot learn. Nothing was taught, unless
            only the answer was lost.
    """
    options = [f"--label={label}"]
    options += [] if guard is None else [f"--guard={guard}"]
    options += [] if threads is None else [f"--threads={threads}"]
    options += ["--thumbnails"] if thumbnails else []
    options += ["--new-class"] if new_class else []
    if not images:
        return _call(TaughtStep, transport, "teach", *options)
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        archive = _pack(images, Path(folder, "pictures.zip"))
        sent = transport.send(archive, inventory(transport).root, progress)
    try:
        return _call(TaughtStep, transport, "teach", sent, *options)
    finally:
        transport.remove(sent)


def bench(transport: Transport, seconds: float = 10.0, threads: Optional[int] = None) -> Benchmark:
    """Measure the running bundle of a device as `edgetl.bench` does; its service pauses meanwhile.

    `edgetl.targets.store_profile` stores the result for later builds.

    Raises:
        DeviceError: the device cannot be reached, has nothing installed, or its service did not start again.
    """
    from edgetl.runtime.bench import Benchmark

    options = [f"--seconds={seconds}"] + ([] if threads is None else [f"--threads={threads}"])
    return parse(Benchmark, transport.call("bench", *options), transport.where)


def pull(transport: Transport, folder: Path) -> Pulled:
    """Copy what a device was taught into a new state folder, which `edgetl merge` accepts.

    The device may go on learning meanwhile. If it is pulled again into another folder, a merge of both still counts
    every picture once.

    Raises:
        OptionError: the folder exists.
        DeviceError: the device cannot be reached, or nothing was taught to its running bundle.
    """
    if folder.exists():
        raise OptionError(f"{folder} already exists; choose a new folder")
    snapshot = parse(Snapshot, transport.call("snapshot"), transport.where)
    try:
        content = transport.fetch(snapshot.file, snapshot.sha256)
    finally:
        transport.remove(snapshot.file)
    make_folder(folder)
    replace_file(folder / JOURNAL_FILE, content)
    return Pulled(
        where=transport.where,
        state=str(folder),
        name=snapshot.name,
        bundle=snapshot.bundle,
        pictures=snapshot.pictures,
        thumbnails=snapshot.thumbnails,
    )


def service(
    transport: Transport, run_options: Optional[str] = None, remove: bool = False
) -> Union[InstalledService, RemovedService]:
    """Install or replace the systemd service that runs the bundle of a device, or remove it.

    Raises:
        OptionError: `run_options` were given with `remove`.
        DeviceError: the device cannot be reached, has nothing installed, or the service does not start.
    """
    if not remove:
        return install_service(transport, run_options)
    if run_options is not None:
        raise OptionError("--run-options cannot be combined with --remove; leave one of them out")
    return _call(RemovedService, transport, "service", "--remove")


def install_service(transport: Transport, run_options: Optional[str] = None) -> InstalledService:
    """Run the bundle of a device as a systemd service, from now on and after every start; an existing one is replaced.

    `run_options` are options of `edgetl run`; None keeps those of the service, at first the camera's. The service is
    limited to half of the memory of the device's target.

    Raises:
        DeviceError: the device cannot be reached, has nothing installed, or the service does not start.
    """
    options = [] if run_options is None else [f"--run-options={run_options}"]
    memory_bytes = _memory_bytes(inventory(transport).target)
    if memory_bytes:
        options.append(f"--memory-bytes={memory_bytes}")
    return _call(InstalledService, transport, "service", *options)


def logs(transport: Transport, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """The latest lines of the log of a device's service, the oldest first; with `follow`, then new lines without end.

    Raises:
        DeviceError: the device cannot be reached, or its log cannot be read.
    """
    if follow:
        return transport.follow("logs", f"--lines={lines}", "--follow")
    return iter(parse(LogLines, transport.call("logs", f"--lines={lines}"), transport.where).lines)


def rollback(transport: Transport) -> RolledBack:
    """Return a device to the bundle that it ran before, with what that was taught, and what was taught since.

    Raises:
        DeviceError: the device cannot be reached, or has no previous bundle.
    """
    return parse(RolledBack, transport.call("rollback"), transport.where)


def trust_key(transport: Transport, key: Path) -> tuple[str, ...]:
    """Let a device accept only bundles that are signed with a trusted key, and trust this one.

    `key` is a public key file. Returns the identifiers of all keys that the device trusts.

    Raises:
        KeyFileError: the file cannot be read, or is not a public key.
        DeviceError: the device cannot be reached, or refuses.
    """
    read_public_key(key)
    sent = transport.send(key, inventory(transport).root)
    try:
        return parse(TrustedKeys, transport.call("trust", sent), transport.where).trusted_keys
    finally:
        transport.remove(sent)


def _list_device(where: str, options: dict[str, Any]) -> DeviceListing:
    try:
        with connect(where, **options) as transport:
            return DeviceListing(where, inventory(transport))
    except EdgetlError as error:
        return DeviceListing(where, fault=str(error))
    except Exception as error:  # an unforeseen answer of one device must not hide the others
        return DeviceListing(where, fault=f"{where}: unexpected {type(error).__name__}: {error}")


def _call(kind: type[_Answer], transport: Transport, verb: str, *arguments: str) -> _Answer:
    """Run a verb; return its answer as a dataclass that also names the device."""
    return parse(kind, {"where": transport.where, **transport.call(verb, *arguments)}, transport.where)


def _pack(images: Sequence[Path], path: Path) -> Path:
    """Write images into an archive, each with its path on this machine as a comment.

    Equal files give equal bytes, so that an interrupted transfer can be resumed.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(images):
            try:
                entry = zipfile.ZipInfo(f"{number}{image.suffix if image.suffix.isascii() else ''}")
                entry.comment = os.fsencode(image)
                archive.writestr(entry, image.read_bytes())
            except OSError as error:
                raise DataError(f"cannot read {image}: {error.strerror or error}; leave it out") from error
    return path


def _memory_bytes(target: str) -> Optional[int]:
    try:
        return load_target(target).memory_bytes if target else None
    except UnknownNameError:  # a target of another host
        return None
