"""Hides asyncssh: the way to a device by SSH, as OpenSSH's client would go it. `connect` makes these transports.

~/.ssh/config, the agent and known_hosts are honoured; a host key that is not known is refused unless it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import posixpath
import re
import shlex
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, TypeVar

from edgetl.deployment.transport.base import Answer, Transport
from edgetl.errors import DeviceError, MissingExtraError, OptionError

try:
    import asyncssh
except ImportError:
    raise MissingExtraError("asyncssh", "deploy", "reaching a device by SSH") from None

CONNECT_SECONDS = 15
KEEPALIVE_SECONDS, KEEPALIVES = 15, 4
"""A link that is silent this often counts as broken."""

NOT_FOUND = 127
"""What a shell ends with where there is no such command (POSIX, Shell Command Language, 2.8.2)."""

ENVIRONMENT = ".local/share/edgetl/python/bin/python"
"""The Python that edgetl has on a device of its own, from the user's home; else python3 runs there."""

_WHERE = re.compile(r"((?P<user>[^@\s-][^@\s]*)@)?(?P<host>[\w.][\w.-]*|\[[\w:.%]+\])(:(?P<port>\d{1,5}))?")
_Value = TypeVar("_Value")


class SshTransport(Transport):
    """The way to [USER@]HOST[:PORT]; see `connect`."""

    def __init__(
        self,
        where: str,
        root: Optional[str],
        python: Optional[str],
        ssh_config: Optional[Path],
        accept_new_host_key: bool,
        ask_password: Optional[Callable[[str], str]],
    ) -> None:
        super().__init__(where, root)
        self._python = python
        options = _options(where, ssh_config)
        self._loop = asyncio.new_event_loop()
        self._open = contextlib.AsyncExitStack()
        try:
            self._connection = self._wait(self._connect(options, accept_new_host_key, ask_password))
            self._files = self._wait(self._open.enter_async_context(self._connection.start_sftp_client()))
            if python is None:
                self._choose_python()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        if not self._loop.is_closed():
            with contextlib.suppress(DeviceError):
                self._wait(self._open.aclose())
            self._loop.close()

    def run_module(self, module: ModuleType, *arguments: str) -> dict[str, Any]:
        """What a module prints as JSON, run by the device's own python3, which need not have it. Raises DeviceError."""
        answer = self._execute(["python3", "-c", inspect.getsource(module), *arguments])
        if answer.code == NOT_FOUND:
            raise DeviceError(f"{self.where} has no python3; put it there: sudo apt install python3")
        if answer.code:
            raise DeviceError(f"{self.where}: {(answer.complaint.strip().splitlines() or ['no answer'])[-1]}")
        return dict(json.loads(answer.output))

    def use_environment(self) -> None:
        """Go on with the environment that edgetl has there by now."""
        self._python, self.is_bare = ENVIRONMENT, False

    def _choose_python(self) -> None:
        if self._wait(self._files.isfile(ENVIRONMENT)):
            return self.use_environment()
        self._python = "python3"
        self.is_bare = self._run(["-c", "import edgetl.runtime"]).code != 0

    def _run(self, arguments: Sequence[str]) -> Answer:
        return self._execute([str(self._python), *arguments])

    def _execute(self, words: Sequence[str]) -> Answer:
        command = shlex.join(words)
        ran = self._wait(self._connection.run(command, stdin=asyncssh.DEVNULL))
        return _answer(ran)

    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        process = self._wait(self._connection.create_process(shlex.join([str(self._python), *arguments])))
        try:
            while line := self._wait(process.stdout.readline()):
                yield str(line).rstrip()
            return _answer(self._wait(process.wait()))
        finally:
            process.close()

    def _held_bytes(self, name: str) -> int:
        if not self._wait(self._files.isfile(name)):
            return 0
        return int(self._wait(self._files.getsize(name)) or 0)

    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None:
        async def append() -> None:
            await self._files.makedirs(posixpath.dirname(name), exist_ok=True)
            async with self._files.open(name, "r+b" if held else "wb") as file:
                await file.seek(held)
                for block in blocks:
                    await file.write(block)

        self._wait(append())

    def _read(self, name: str) -> bytes:
        async def read() -> bytes:
            async with self._files.open(name, "rb") as file:
                content = await file.read()
                return content if isinstance(content, bytes) else content.encode()

        return self._wait(read())

    def _remove(self, name: str) -> None:
        async def remove() -> None:
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                await self._files.remove(name)

        self._wait(remove())

    async def _connect(
        self, options: dict[str, Any], accept_new_host_key: bool, ask_password: Optional[Callable[[str], str]]
    ) -> asyncssh.SSHClientConnection:
        try:
            return await self._try(options)
        except asyncssh.HostKeyNotVerifiable:
            if not accept_new_host_key:
                raise
            await _learn_host_key(options)
            return await self._connect(options, False, ask_password)
        except asyncssh.PermissionDenied:
            if ask_password is None:
                raise
            return await self._try({**options, "password": ask_password(f"password for {self.where}: ")})

    async def _try(self, options: dict[str, Any]) -> asyncssh.SSHClientConnection:
        connection = asyncssh.connect(
            **options,
            connect_timeout=CONNECT_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVES,
        )
        return await self._open.enter_async_context(connection)

    def _wait(self, doing: Awaitable[_Value]) -> _Value:
        """What an asynchronous call comes to; its faults as one line that says what to do."""
        try:
            return self._loop.run_until_complete(doing)
        except asyncssh.HostKeyNotVerifiable:
            raise DeviceError(
                f"the host key of {self.where} is not the known one, or not known yet; compare it, log in once with "
                "ssh, or take a new host's key with --accept-new-host-key"
            ) from None
        except asyncssh.PermissionDenied:
            raise DeviceError(
                f"{self.where} lets nobody in with these keys; put yours there: ssh-copy-id {self.where}"
            ) from None
        except asyncssh.SFTPError as error:
            raise DeviceError(f"{self.where} has no use of the file: {error.reason}; look at its disk") from None
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            reason = " ".join(str(error).split())[:200] or "no answer"
            raise DeviceError(
                f"cannot reach {self.where}: {reason}; look whether it is on, and try again: what has arrived is kept"
            ) from None


def _answer(ran: asyncssh.SSHCompletedProcess) -> Answer:
    code = ran.exit_status if ran.exit_status is not None else -1
    return Answer(code, str(ran.stdout or ""), str(ran.stderr or ""))


def _options(where: str, ssh_config: Optional[Path]) -> dict[str, Any]:
    found = _WHERE.fullmatch(where)
    if found is None:
        raise OptionError(f"'{where}' is no device; give [USER@]HOST[:PORT], or a folder with a slash: ./device")
    options: dict[str, Any] = {"host": found["host"].strip("[]")}
    if found["user"]:
        options["username"] = found["user"]
    if found["port"]:
        options["port"] = int(found["port"])
    if ssh_config is not None:
        options["config"] = [str(ssh_config)]
    return options


async def _learn_host_key(options: dict[str, Any]) -> None:
    """Adds the key of a host that has none yet to ~/.ssh/known_hosts; one that has another keeps it."""
    wanted = {name: value for name, value in options.items() if name != "username"}
    prepared = asyncssh.SSHClientConnectionOptions(**{**options, "known_hosts": None})
    host, port = prepared.host, prepared.port
    path = Path.home() / ".ssh" / "known_hosts"
    known = asyncssh.match_known_hosts(str(path), host, "", port)[0] if path.is_file() else []
    key = await asyncssh.get_server_host_key(**wanted)
    if known or key is None:
        raise asyncssh.HostKeyNotVerifiable("another key is known")
    name = host if port == 22 else f"[{host}]:{port}"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{name} {key.export_public_key().decode().strip()}\n")
