"""Defines the connection to a device: run a verb there, send it a file, fetch one.

A transport implements `_run`, `_stream`, `_held`, `_append`, `_read` and `_remove`. The base class checks the answers
and resumes interrupted transfers. A device is not trusted: its answers are limited in size and in time.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from edgetl.errors import DeviceError
from edgetl.progress import Progress
from edgetl.runtime import PROTOCOL
from edgetl.runtime.device import INCOMING

BLOCK_BYTES = 1 << 18

USAGE_ERROR = 64
"""Exit code of a device's edgetl that does not know a verb or an option (EX_USAGE of sysexits.h)."""
COMMAND_NOT_FOUND = 127
"""Exit code of a shell (POSIX, Shell Command Language, 2.8.2)."""

PREPARE = "edgetl prepare HOST"
TOO_OLD = f"edgetl is older there than here; update it: {PREPARE}"

ANSWER_BYTES = 32 << 20
"""The longest answer that is read."""
FILE_BYTES = 2 << 30
"""The largest file that is fetched."""
ANSWER_SECONDS = 1800.0
"""Deadline for the answer of a verb that works on pictures."""
QUICK_VERBS = frozenset({"status", "logs", "configure", "trust", "learned"})
QUICK_SECONDS = 60.0
"""Deadline for the answer of one of QUICK_VERBS."""

EXCERPT_CHARACTERS = 80
"""How much of an unreadable answer an error shows."""


@dataclass(frozen=True)
class Answer:
    """The result of a process on the device."""

    code: int
    output: str
    errors: str


class Transport(ABC):
    """A connection to one device. Use it as a context manager, or call `close`. Not thread-safe.

    `where` is the user's name of the device; errors begin with it.
    """

    is_bare = False
    """Whether the device has no edgetl yet; see `edgetl.deployment.provisioning.prepare`."""

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
        """End the connection."""

    def call(self, verb: str, *arguments: str) -> dict[str, Any]:
        """Run a verb of `python -m edgetl.runtime` on the device; return the JSON object that it prints.

        Raises:
            DeviceError: the device cannot be reached, has no edgetl or another version of it, refuses (with its own
                message), or does not answer with a JSON object.
        """
        seconds = QUICK_SECONDS if verb in QUICK_VERBS else ANSWER_SECONDS
        answer = self._run([*self._command(verb, arguments), "--json"], seconds)
        if answer.code:
            raise DeviceError(f"{self.where}: {_reason(answer)}")
        return read_json_object(self.where, answer.output)

    def follow(self, verb: str, *arguments: str) -> Iterator[str]:
        """The lines that a verb prints on the device, as they come. Closing the iterator ends the verb.

        Raises:
            DeviceError: the device cannot be reached, the connection broke, or it refuses (with its own message).
        """
        answer = yield from self._stream(self._command(verb, arguments))
        if answer.code:
            raise DeviceError(f"{self.where}: {_reason(answer)}")

    def send(self, path: Path, root: str, progress: Optional[Progress] = None) -> str:
        """Send a file to the incoming folder of a device root; return its path there.

        What arrived whole in an earlier call is not sent again: its digest decides, not its size.

        Raises:
            DeviceError: the connection broke; the same call resumes.
        """
        content = path.read_bytes()
        name = f"{root}/{INCOMING}/{hashlib.sha256(content).hexdigest()}"
        held, digest = self._held(name)
        if held > len(content) or digest != hashlib.sha256(content[:held]).hexdigest():
            self._remove(name)
            held = 0
        self._append(name, held, _blocks(content, held, f"{self.where}: sending", progress))
        return name

    def fetch(self, name: str, digest: str) -> bytes:
        """Read a file on the device that has this SHA-256.

        Raises:
            DeviceError: the connection broke, or the file has changed.
        """
        content = self._read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise DeviceError(f"{self.where}: {name} changed during the transfer; run the command again")
        return content

    def remove(self, name: str) -> None:
        """Remove a file that was sent or fetched."""
        self._remove(name)

    def _command(self, verb: str, arguments: Sequence[str]) -> list[str]:
        root = [] if self._root is None else ["--root", self._root]
        return ["-m", "edgetl.runtime", verb, *arguments, *root]

    @abstractmethod
    def _run(self, arguments: Sequence[str], seconds: float = QUICK_SECONDS) -> Answer:
        """Run the device's Python with these arguments to its end, for at most this time.

        Raises:
            DeviceError: it took longer, or printed more than ANSWER_BYTES.
        """

    @abstractmethod
    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        """Yield the lines that the device's Python prints, without line ends; closing this closes its stdin."""

    @abstractmethod
    def _held(self, name: str) -> tuple[int, str]:
        """The size and the SHA-256 of a regular file on the device; 0 bytes if it does not exist."""

    @abstractmethod
    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None:
        """Write blocks after the first `held` bytes of a file, creating its folder if necessary."""

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The content of a regular file of at most FILE_BYTES."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove a file if it exists."""


def read_json_object(where: str, text: str) -> dict[str, Any]:
    """The JSON object that a device printed, without its protocol version.

    Raises:
        DeviceError: the text is not a JSON object, or the device speaks a newer protocol.
    """
    content = _find_object(text)
    if content is None:
        raise DeviceError(f"{where} gave an unreadable answer: {excerpt(text)}; update edgetl there: {PREPARE}")
    protocol = content.pop("protocol", PROTOCOL)  # devices before protocol 1 do not state it
    if type(protocol) is not int or protocol > PROTOCOL:
        raise DeviceError(f"{where}: edgetl is newer there than here (protocol {protocol!r}); update edgetl here")
    return content


def _find_object(text: str) -> Optional[dict[str, Any]]:
    """The JSON object that a text is, else the last that begins a line, one with a protocol version first.

    What a start-up file left running in the background may print before, after and behind it.
    """
    with suppress(ValueError, RecursionError):
        content = json.loads(text, parse_constant=_refuse_constant)
        return content if isinstance(content, dict) else None
    decoder, found = json.JSONDecoder(parse_constant=_refuse_constant), []
    for line in reversed(text.splitlines()):
        with suppress(ValueError, RecursionError):
            content, _ = decoder.raw_decode(line)
            found += [content] if isinstance(content, dict) else []
    return next((one for one in found if "protocol" in one), found[0] if found else None)


def too_slow(where: str, seconds: float) -> DeviceError:
    """The error for a device that does not answer in time."""
    return DeviceError(f"{where} gave no answer within {seconds:.0f} s; restart the device, then try again")


def too_long(where: str) -> DeviceError:
    """The error for a device that prints without end."""
    return DeviceError(f"{where} printed more than {ANSWER_BYTES >> 20} MiB instead of an answer; check the account")


def excerpt(text: str) -> str:
    """The start of what a device printed, on one line and quoted, for an error."""
    line = " ".join(text.split())
    return repr(line if len(line) <= EXCERPT_CHARACTERS else f"{line[:EXCERPT_CHARACTERS]}...")


def is_too_old(code: Optional[int], errors: str) -> bool:
    """Whether a device's edgetl did not know the verb or an option; before protocol 1 only argparse's words say so."""
    return code == USAGE_ERROR or "invalid choice" in errors or "unrecognized arguments" in errors


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(name)


def _blocks(content: bytes, start: int, step: str, progress: Optional[Progress]) -> Iterator[bytes]:
    for position in range(start, len(content), BLOCK_BYTES):
        if progress:
            progress(step, position, len(content))
        yield content[position : position + BLOCK_BYTES]
    if progress:
        progress(step, len(content), len(content))


def _reason(answer: Answer) -> str:
    """The device's own error message, or why it could not answer at all."""
    lines = answer.errors.strip().splitlines() or [f"the command ended with code {answer.code}"]
    if lines[-1].startswith("edgetl: ") and answer.code != USAGE_ERROR:
        return lines[-1][len("edgetl: ") :]
    if is_too_old(answer.code, lines[-1]):
        return TOO_OLD
    if "No module named" in lines[-1] or answer.code == COMMAND_NOT_FOUND:
        return f"edgetl cannot run there ({lines[-1]}); install it: edgetl prepare HOST, or choose another --python"
    return lines[-1]
