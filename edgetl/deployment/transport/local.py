"""Deploys to a device root in a folder of this machine, with the same verbs in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from edgetl.deployment.transport import remote_files
from edgetl.deployment.transport.base import (
    ANSWER_BYTES,
    FILE_BYTES,
    QUICK_SECONDS,
    Answer,
    Transport,
    too_long,
    too_slow,
)
from edgetl.durable import make_folder, storage_error
from edgetl.errors import DeviceError


class LocalTransport(Transport):
    """The connection to a device root in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), str(folder.absolute()))

    def _run(self, arguments: Sequence[str], seconds: float = QUICK_SECONDS) -> Answer:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            try:
                self._watch(process, (output.fileno(), errors.fileno()), seconds)
            finally:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            return Answer(process.returncode, _text(output), _text(errors))

    def _watch(self, process: subprocess.Popen[bytes], outputs: tuple[int, ...], seconds: float) -> None:
        """Wait for the end of a process that must neither take longer nor print more than allowed."""
        deadline, pause = time.monotonic() + seconds, 0.001
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise too_slow(self.where, seconds)
            if max(os.fstat(output).st_size for output in outputs) > ANSWER_BYTES:
                raise too_long(self.where)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause)
            pause = min(2 * pause, 0.05)

    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        with subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield from map(str.rstrip, process.stdout)
            finally:
                process.stdin.close()
            errors = process.stderr.read()
        return Answer(process.returncode, "", errors)

    def _held(self, name: str) -> tuple[int, str]:
        held = remote_files.hold(name)
        return int(str(held["size"])), str(held["sha256"])

    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None:
        make_folder(Path(name).parent)
        try:
            with open(name, "r+b" if held else "wb") as file:
                file.seek(held)
                for block in blocks:
                    file.write(block)
        except OSError as error:
            raise storage_error(Path(name), error) from error

    def _read(self, name: str) -> bytes:
        path = Path(name)
        try:
            if not path.is_file():
                raise DeviceError(f"{self.where}: {name} is not a regular file; the device's answer is not usable")
            if path.stat().st_size > FILE_BYTES:
                raise DeviceError(f"{self.where}: {name} is larger than {FILE_BYTES >> 30} GiB; it is not read")
            return path.read_bytes()
        except OSError as error:
            raise DeviceError(f"{self.where}: cannot read {name}: {error.strerror or error}") from error

    def _remove(self, name: str) -> None:
        Path(name).unlink(missing_ok=True)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(ANSWER_BYTES).decode(errors="replace")
