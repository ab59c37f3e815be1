"""Hides how far away a device is: a deployment tells it verbs and sends it files, whatever lies between.

A maker of transports writes `_run`, `_stream`, `_held_bytes`, `_append`, `_read` and `_remove`; the base gives what is
checked, and goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from edgetl.durable import make_folder, storage_error
from edgetl.errors import DeviceError
from edgetl.progress import Progress
from edgetl.runtime.device.slots import INCOMING

BLOCK_BYTES = 1 << 18

TOO_OLD = "edgetl is older there than here; renew it: edgetl prepare HOST"


@dataclass(frozen=True)
class Answer:
    """What a process on the device came to."""

    code: int
    output: str
    complaint: str


class Transport(ABC):
    """A way to one device. Use it as a context, or `close` it. Not thread-safe.

    `where` is what the user calls the device, and stands before its complaints.
    """

    is_bare = False
    """Whether the device has no edgetl yet; see `edgetl.deployment.provisioning.environment`."""

    def __init__(self, where: str, root: Optional[str]) -> None:
        self.where = where
        self._root = root

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End the use."""

    def tell(self, verb: str, *arguments: str) -> dict[str, Any]:
        """What a verb of `python -m edgetl.runtime` says on the device.

        Raises:
            DeviceError: it cannot be reached, has no edgetl, or refuses; with its own words.
        """
        answer = self._run([*self._command(verb, arguments), "--json"])
        if answer.code == 0:
            try:
                return dict(json.loads(answer.output))
            except ValueError:
                raise DeviceError(f"{self.where} gave no answer that edgetl can read; update edgetl there") from None
        raise DeviceError(f"{self.where}: {_reason(answer)}")

    def follow(self, verb: str, *arguments: str) -> Iterator[str]:
        """The lines that a verb says on the device, as they come; it ends there when nobody wants any more.

        Raises:
            DeviceError: it cannot be reached, the link broke, or it refuses; with its own words.
        """
        answer = yield from self._stream(self._command(verb, arguments))
        if answer.code:
            raise DeviceError(f"{self.where}: {_reason(answer)}")

    def send(self, path: Path, root: str, progress: Optional[Progress] = None) -> str:
        """Send a file to the device of this root; returns its path there. What has arrived before is not sent again.

        Raises:
            DeviceError: the link broke; the same call goes on from there.
        """
        content = path.read_bytes()
        name = f"{root}/{INCOMING}/{hashlib.sha256(content).hexdigest()}"
        held = self._held_bytes(name)
        if held > len(content):
            self._remove(name)
            held = 0
        self._append(name, held, _blocks(content, held, f"{self.where}: sending", progress))
        return name

    def fetch(self, name: str, digest: str) -> bytes:
        """The content of a file on the device, with this SHA-256.

        Raises:
            DeviceError: the link broke, or the file is another one by now.
        """
        content = self._read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise DeviceError(f"{self.where}: {name} changed on its way; try again")
        return content

    def remove(self, name: str) -> None:
        """Remove a file that was sent or fetched."""
        self._remove(name)

    def _command(self, verb: str, arguments: Sequence[str]) -> list[str]:
        root = [] if self._root is None else ["--root", self._root]
        return ["-m", "edgetl.runtime", verb, *arguments, *root]

    @abstractmethod
    def _run(self, arguments: Sequence[str]) -> Answer:
        """Run the device's Python with arguments, to its end."""

    @abstractmethod
    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        """The lines, without their ends, that the device's Python says meanwhile; its standard input ends with them."""

    @abstractmethod
    def _held_bytes(self, name: str) -> int:
        """How much of a file is there; 0 where it is not."""

    @abstractmethod
    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None:
        """Write blocks behind the first `held` bytes of a file, in a folder that may be missing."""

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove a file, where it is there."""


class LocalTransport(Transport):
    """The way to a device root in a folder of this machine, by the same verbs in processes of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), str(folder.absolute()))

    def _run(self, arguments: Sequence[str]) -> Answer:
        ran = subprocess.run([sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return Answer(ran.returncode, ran.stdout, ran.stderr)

    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        with subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield from map(str.rstrip, process.stdout)
            finally:
                process.stdin.close()
            complaint = process.stderr.read()
        return Answer(process.returncode, "", complaint)

    def _held_bytes(self, name: str) -> int:
        path = Path(name)
        return path.stat().st_size if path.is_file() else 0

    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None:
        make_folder(Path(name).parent)
        try:
            with open(name, "ab") as file:
                for block in blocks:
                    file.write(block)
        except OSError as error:
            raise storage_error(Path(name), error) from error

    def _read(self, name: str) -> bytes:
        return Path(name).read_bytes()

    def _remove(self, name: str) -> None:
        Path(name).unlink(missing_ok=True)


def connect(
    where: str,
    root: Optional[str] = None,
    python: Optional[str] = None,
    ssh_config: Optional[Path] = None,
    accept_new_host_key: bool = False,
    ask_password: Optional[Callable[[str], str]] = None,
) -> Transport:
    """The way to a device: a folder of this machine where `where` holds a slash, else [USER@]HOST[:PORT] by SSH.

    The rest is of SSH only: `root` and `python` are the device's, its own choice unless they are given; `ssh_config`
    stands for ~/.ssh/config; `ask_password` is called with a prompt where no key is accepted.

    Raises:
        DeviceError: it cannot be reached.
        MissingExtraError: asyncssh is not installed.
    """
    if "/" in where:
        return LocalTransport(Path(where).expanduser())
    from edgetl.deployment.transport.ssh import SshTransport

    return SshTransport(where, root, python, ssh_config, accept_new_host_key, ask_password)


def is_too_old(complaint: str) -> bool:
    """Whether a device complains of a verb or an option that its edgetl does not have, as argparse words it."""
    return "invalid choice" in complaint or "unrecognized arguments" in complaint


def _blocks(content: bytes, start: int, step: str, progress: Optional[Progress]) -> Iterator[bytes]:
    for position in range(start, len(content), BLOCK_BYTES):
        if progress:
            progress(step, position, len(content))
        yield content[position : position + BLOCK_BYTES]
    if progress:
        progress(step, len(content), len(content))


def _reason(answer: Answer) -> str:
    """The line of a device that refuses, or what keeps it from answering at all."""
    lines = answer.complaint.strip().splitlines() or [f"the command ended with code {answer.code}"]
    if lines[-1].startswith("edgetl: "):
        return lines[-1][len("edgetl: ") :]
    if is_too_old(lines[-1]):
        return TOO_OLD
    if "No module named" in lines[-1] or answer.code == 127:
        return f"edgetl cannot run there ({lines[-1]}); install it: edgetl prepare HOST, or name its --python"
    return lines[-1]
