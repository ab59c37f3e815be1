"""Deploys to a device root in a folder of this machine, with the same verbs in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from edgetl.deployment.transport.base import Answer, Transport
from edgetl.durable import make_folder, storage_error
from edgetl.errors import DeviceError


class LocalTransport(Transport):
    """The connection to a device root in a folder of this machine."""

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
            errors = process.stderr.read()
        return Answer(process.returncode, "", errors)

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
        try:
            return Path(name).read_bytes()
        except OSError as error:
            raise DeviceError(f"{self.where}: cannot read {name}: {error.strerror or error}") from error

    def _remove(self, name: str) -> None:
        Path(name).unlink(missing_ok=True)
