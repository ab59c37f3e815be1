"""Connects to a device over SSH with asyncssh, as OpenSSH's client would.

~/.ssh/config, the SSH agent and known_hosts are honoured. An unknown host key is refused unless the caller accepts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import posixpath
import re
import shlex
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, TypeVar

from edgetl.deployment.transport.base import COMMAND_NOT_FOUND, Answer, Transport, read_json_object
from edgetl.errors import DeviceError, MissingExtraError, OptionError

try:
    import asyncssh
except ImportError:
    raise MissingExtraError("asyncssh", "deploy", "connecting to a device over SSH") from None

CONNECT_SECONDS = 15
KEEPALIVE_SECONDS = 15
KEEPALIVES = 4
"""The connection counts as broken after this many unanswered keep-alive messages."""

ENVIRONMENT = ".local/share/edgetl/python/bin/python"
"""The Python of edgetl's own environment on a device, relative to the user's home; without it python3 is used."""

_DEVICE = re.compile(r"((?P<user>[^@\s-][^@\s]*)@)?(?P<host>[\w.][\w.-]*|\[[\w:.%]+\])(:(?P<port>\d{1,5}))?")
_Value = TypeVar("_Value")


class SshTransport(Transport):
    """The connection to [USER@]HOST[:PORT]; see `edgetl.deployment.connect`."""

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
        options = _connect_options(where, ssh_config)
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
        """Run the source of a module with the device's python3; return the JSON object that it prints.

        The module need not be installed on the device, but may use the standard library only.

        Raises:
            DeviceError: the device cannot be reached, has no python3, or the module failed there.
        """
        answer = self._execute(["python3", "-c", inspect.getsource(module), *arguments])
        if answer.code == COMMAND_NOT_FOUND:
            raise DeviceError(f"{self.where} has no python3; install it there: sudo apt install python3")
        if answer.code:
            lines = answer.errors.strip().splitlines() or [f"the command ended with code {answer.code}"]
            raise DeviceError(f"{self.where}: {lines[-1]}")
        return read_json_object(self.where, answer.output)

    def use_environment(self) -> None:
        """From now on use the environment that edgetl has on the device."""
        self._python, self.is_bare = ENVIRONMENT, False

    def _choose_python(self) -> None:
        if self._wait(self._files.isfile(ENVIRONMENT)):
            return self.use_environment()
        self._python = "python3"
        self.is_bare = self._run(["-c", "import edgetl.runtime.__main__"]).code != 0

    def _run(self, arguments: Sequence[str]) -> Answer:
        return self._execute([str(self._python), *arguments])

    def _execute(self, words: Sequence[str]) -> Answer:
        return _answer(self._wait(self._connection.run(shlex.join(words), stdin=asyncssh.DEVNULL)))

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

        self._wait(append(), f"write {name}")

    def _read(self, name: str) -> bytes:
        async def read() -> bytes:
            async with self._files.open(name, "rb") as file:
                content = await file.read()
                return content if isinstance(content, bytes) else content.encode()

        return self._wait(read(), f"read {name}")

    def _remove(self, name: str) -> None:
        async def remove() -> None:
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                await self._files.remove(name)

        self._wait(remove(), f"remove {name}")

    async def _connect(
        self, options: dict[str, Any], accept_new_host_key: bool, ask_password: Optional[Callable[[str], str]]
    ) -> asyncssh.SSHClientConnection:
        try:
            return await self._log_in(options)
        except asyncssh.HostKeyNotVerifiable:
            if not accept_new_host_key:
                raise
            await _learn_host_key(options)
            return await self._connect(options, False, ask_password)
        except asyncssh.PermissionDenied:
            if ask_password is None:
                raise
            return await self._log_in({**options, "password": ask_password(f"password for {self.where}: ")})

    async def _log_in(self, options: dict[str, Any]) -> asyncssh.SSHClientConnection:
        connection = asyncssh.connect(
            **options,
            connect_timeout=CONNECT_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVES,
        )
        return await self._open.enter_async_context(connection)

    def _wait(self, operation: Awaitable[_Value], action: str = "use SFTP") -> _Value:
        """Run an asynchronous operation to its end; its errors become one line that says what to do.

        `action` describes the operation in case the file system of the device refuses it.
        """
        try:
            return self._loop.run_until_complete(operation)
        except asyncssh.HostKeyNotVerifiable:
            raise DeviceError(
                f"the host key of {self.where} is unknown, or not the known one; compare it and log in once with ssh, "
                "or accept the key of a new host with --accept-new-host-key"
            ) from None
        except asyncssh.PermissionDenied:
            advice = f"install one: ssh-copy-id {self.where}"
            raise DeviceError(f"{self.where} accepts none of your keys; {advice}") from None
        except asyncssh.SFTPError as error:
            raise DeviceError(f"cannot {action} on {self.where}: {error.reason}; check the disk there") from None
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            reason = " ".join(str(error).split())[:200] or "no answer"
            raise DeviceError(
                f"cannot reach {self.where}: {reason}; check that it is on, then run the command again: what has "
                "arrived is kept"
            ) from None


def _answer(ran: asyncssh.SSHCompletedProcess) -> Answer:
    code = ran.exit_status if ran.exit_status is not None else -1
    return Answer(code, str(ran.stdout or ""), str(ran.stderr or ""))


def _connect_options(where: str, ssh_config: Optional[Path]) -> dict[str, Any]:
    match = _DEVICE.fullmatch(where)
    if match is None:
        raise OptionError(f"invalid device '{where}': expected [USER@]HOST[:PORT], or a folder such as ./device")
    options: dict[str, Any] = {"host": match["host"].strip("[]")}
    if match["user"]:
        options["username"] = match["user"]
    if match["port"]:
        options["port"] = int(match["port"])
    if ssh_config is not None:
        options["config"] = [str(ssh_config)]
    return options


async def _learn_host_key(options: dict[str, Any]) -> None:
    """Add the key of a host to ~/.ssh/known_hosts, unless another key of it is known."""
    anonymous = {name: value for name, value in options.items() if name != "username"}
    resolved = asyncssh.SSHClientConnectionOptions(**{**options, "known_hosts": None})
    host, port = resolved.host, resolved.port
    path = Path.home() / ".ssh" / "known_hosts"
    known = asyncssh.match_known_hosts(str(path), host, "", port)[0] if path.is_file() else []
    key = await asyncssh.get_server_host_key(**anonymous)
    if known or key is None:
        raise asyncssh.HostKeyNotVerifiable("another key is known")
    name = host if port == 22 else f"[{host}]:{port}"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{name} {key.export_public_key().decode().strip()}\n")
