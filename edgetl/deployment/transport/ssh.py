"""Connects to a device over SSH with asyncssh, as OpenSSH's client would.

The SSH configuration, the agent and known_hosts files are honoured. An unknown host key is refused unless the caller or
the configuration accepts it. Files pass through the device's Python, because a device may have no SFTP server, or a
login shell that prints into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import secrets
import shlex
import socket
import string
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, TypeVar

from edgetl.deployment.transport import remote_files
from edgetl.deployment.transport.base import (
    ANSWER_BYTES,
    COMMAND_NOT_FOUND,
    FILE_BYTES,
    QUICK_SECONDS,
    Answer,
    Transport,
    excerpt,
    read_json_object,
    too_long,
    too_slow,
)
from edgetl.deployment.transport.ssh_config import Login, resolve
from edgetl.errors import DeviceError, MissingExtraError

try:
    import asyncssh

    from edgetl.deployment.transport.host_keys import add_key, is_known, read_known_hosts
except ImportError:
    raise MissingExtraError("asyncssh", "deploy", "connecting to a device over SSH") from None

CONNECT_SECONDS = 15
KEEPALIVE_SECONDS = 15
KEEPALIVES = 4
"""The connection counts as broken after this many unanswered keep-alive messages."""
JUMPS = 8
"""The longest chain of jump hosts."""
INSTALL_SECONDS = 900.0
"""Deadline for a module that runs on a device, for example to unpack wheels on a slow card."""
FILE_SECONDS = 3600.0
"""Deadline for the transfer of one file."""
BLOCK_BYTES = 1 << 16

ENVIRONMENT = ".local/share/edgetl/python/bin/python"
"""The Python of edgetl's own environment on a device, relative to the user's home; without it python3 is used."""
RUNS_EDGETL = "import edgetl.runtime.__main__"

_SAFE = frozenset(string.ascii_letters + string.digits + " ./_-=,%+@")
"""Characters that every login shell leaves alone within single quotes, and printf within a text."""
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
        self._config, self._accepts_new, self._ask_password = ssh_config, accept_new_host_key, ask_password
        login = resolve(where, ssh_config)
        self._marker = f"edgetl:{secrets.token_hex(8)}"
        self._loop = asyncio.new_event_loop()
        self._open = contextlib.AsyncExitStack()
        try:
            self._connection = self._wait(self._reach(login))
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
        answer = self._execute(["python3", "-c", inspect.getsource(module), *arguments], INSTALL_SECONDS)
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
        """Use the first Python that runs edgetl; an environment that exists but does not run is not used."""
        for python in (ENVIRONMENT, "python3"):
            self._python = python
            if self._run(["-c", RUNS_EDGETL]).code == 0:
                return
        self.is_bare = True

    def _run(self, arguments: Sequence[str], seconds: float = QUICK_SECONDS) -> Answer:
        return self._execute([str(self._python), *arguments], seconds)

    def _execute(self, words: Sequence[str], seconds: float = QUICK_SECONDS) -> Answer:
        code, output, errors = self._wait(self._communicate(words, seconds))
        return Answer(code, output.decode(errors="replace"), errors)

    async def _communicate(
        self,
        words: Sequence[str],
        seconds: float,
        blocks: Optional[Iterator[bytes]] = None,
        limit: int = ANSWER_BYTES,
    ) -> tuple[int, bytes, str]:
        """Run a command with these blocks as its input; return its exit code, its output and its error messages."""
        process = await self._start(words)
        try:
            return await asyncio.wait_for(self._converse(process, blocks, limit), seconds)
        except asyncio.TimeoutError:
            raise too_slow(self.where, seconds) from None
        finally:
            process.close()

    async def _converse(
        self, process: asyncssh.SSHClientProcess[bytes], blocks: Optional[Iterator[bytes]], limit: int
    ) -> tuple[int, bytes, str]:
        errors = asyncio.ensure_future(self._collect(process.stderr, ANSWER_BYTES))
        head = b"" if blocks is None else await self._until_ready(process)
        output = asyncio.ensure_future(self._collect(process.stdout, limit))
        try:
            if blocks is not None:
                with contextlib.suppress(BrokenPipeError):  # the command ended early; its exit code says why
                    for block in blocks:
                        process.stdin.write(block)
                        await process.stdin.drain()
            process.stdin.write_eof()
            printed, complaints = head + await output, await errors
            await process.wait_closed()
        finally:
            for reader in (output, errors):
                reader.cancel()
        code = process.exit_status if process.exit_status is not None else -1
        return code, self._after_marker(printed, complaints, code), _after(complaints, self._marker)

    async def _until_ready(self, process: asyncssh.SSHClientProcess[bytes]) -> bytes:
        """Wait until a command reads its input: what is sent earlier would be lost if the connection broke."""
        try:
            return bytes(await process.stdout.readuntil(f"{self._marker}\n{remote_files.READY}".encode()))
        except asyncio.IncompleteReadError as error:
            return bytes(error.partial)

    async def _collect(self, reader: asyncssh.SSHReader[bytes], limit: int) -> bytes:
        found = bytearray()
        while block := await reader.read(BLOCK_BYTES):
            found += block
            if len(found) > limit:
                raise too_long(self.where)
        return bytes(found)

    def _after_marker(self, printed: bytes, complaints: bytes, code: int) -> bytes:
        """What the command printed, without what the login shell printed before.

        Raises:
            DeviceError: the shell did not run the command.
        """
        before, marker, answer = printed.partition(f"{self._marker}\n".encode())
        if marker:
            return answer
        if code == -1 and not printed and not complaints:
            raise DeviceError(f"{self.where} closed the connection before it answered; run the command again")
        raise self._shell_error(before + complaints, code)

    def _shell_error(self, printed: bytes, code: int) -> DeviceError:
        text = printed.decode(errors="replace")
        said = f"and printed {excerpt(text)}" if text.strip() else f"and ended with code {code}"
        return DeviceError(
            f"the login shell of {self.where} did not run the command {said}; check the account's shell and its "
            "start-up files there"
        )

    async def _start(self, words: Sequence[str]) -> asyncssh.SSHClientProcess[bytes]:
        return await self._connection.create_process(self._command_line(words), encoding=None)

    def _command_line(self, words: Sequence[str]) -> str:
        """A command for any login shell: it starts a POSIX shell, which prints the marker and runs `words`.

        Shells differ in quoting, so the words are written in characters on which all of them agree.
        """
        mark = f"echo {self._marker}"
        script = f"{mark}; {mark} >&2; exec {shlex.join(words)}"
        coded = "".join(_octal(character) for character in script)
        return f"exec /bin/sh -c 'eval \"$(printf %b \"$0\")\"' '{coded}'"

    def _stream(self, arguments: Sequence[str]) -> Generator[str, None, Answer]:
        process = self._wait(self._start([str(self._python), *arguments]))
        try:
            yield from self._lines(process)
            complaints = self._wait(self._collect(process.stderr, ANSWER_BYTES))
            self._wait(process.wait_closed())
            code = process.exit_status if process.exit_status is not None else -1
            return Answer(code, "", _after(complaints, self._marker))
        finally:
            process.close()

    def _lines(self, process: asyncssh.SSHClientProcess[bytes]) -> Iterator[str]:
        """The lines after the marker, without line ends; a very long one is cut."""
        is_ours, rest = False, b""
        while block := self._wait(process.stdout.read(BLOCK_BYTES)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if is_ours:
                    yield line.decode(errors="replace").rstrip()
                is_ours = is_ours or line.endswith(self._marker.encode())
            rest = rest[:ANSWER_BYTES]
        if is_ours and rest:
            yield rest.decode(errors="replace").rstrip()

    def _held(self, name: str) -> tuple[int, str]:
        held = self._use_file("read", name, "hold")
        size, digest = held.get("size"), held.get("sha256")
        if type(size) is not int or not isinstance(digest, str):
            raise DeviceError(f"{self.where} gave an unexpected answer: {excerpt(json.dumps(held))}")
        return size, digest

    def _append(self, name: str, held: int, blocks: Iterator[bytes]) -> None:
        self._use_file("write", name, "append", str(held), blocks=blocks)

    def _read(self, name: str) -> bytes:
        return self._transfer("read", name, "read", limit=FILE_BYTES)

    def _remove(self, name: str) -> None:
        self._use_file("remove", name, "remove")

    def _use_file(
        self, action: str, name: str, verb: str, *arguments: str, blocks: Optional[Iterator[bytes]] = None
    ) -> dict[str, Any]:
        printed = self._transfer(action, name, verb, *arguments, blocks=blocks)
        return read_json_object(self.where, printed.decode(errors="replace"))

    def _transfer(
        self,
        action: str,
        name: str,
        verb: str,
        *arguments: str,
        blocks: Optional[Iterator[bytes]] = None,
        limit: int = ANSWER_BYTES,
    ) -> bytes:
        source = inspect.getsource(remote_files)
        words = [str(self._python), "-I", "-S", "-c", source, verb, name, *arguments]
        code, printed, errors = self._wait(self._communicate(words, FILE_SECONDS, blocks, limit))
        if code == -1:
            raise self._broken("the connection was closed")
        if code:
            lines = errors.strip().splitlines() or [f"the command ended with code {code}"]
            raise DeviceError(f"cannot {action} {name} on {self.where}: {lines[-1]}; check the disk there")
        return printed

    async def _reach(self, login: Login) -> asyncssh.SSHClientConnection:
        """Log in to a host, through its jump hosts."""
        tunnel = None
        for hop in self._jumps(login):
            tunnel = await self._log_in(hop, tunnel, f"the jump host {hop.name}")
        return await self._log_in(login, tunnel, self.where)

    def _jumps(self, login: Login) -> list[Login]:
        """The jump hosts of a login, the first one first; the first may have jump hosts of its own."""
        hops: list[Login] = []
        waiting = login.jumps
        while waiting:
            resolved = [resolve(hop, self._config) for hop in waiting]
            hops = [*resolved, *hops]
            waiting = () if resolved[0].proxy_command else resolved[0].jumps
            if len(hops) > JUMPS:
                raise DeviceError(
                    f"{self.where} has more than {JUMPS} jump hosts; check ProxyJump in the configuration"
                )
        return hops

    async def _log_in(
        self, login: Login, tunnel: Optional[asyncssh.SSHClientConnection], name: str
    ) -> asyncssh.SSHClientConnection:
        """Connect to a host and log in; errors name it."""
        options, locked = self._options(login, tunnel), _locked_keys(login)
        try:
            return await self._authenticate(login, options)
        except asyncssh.HostKeyNotVerifiable as error:
            await self._accept_key(login, options, name, error)
        except asyncssh.PermissionDenied:
            if self._ask_password is None or tunnel or name != self.where:
                raise _denied(name, login, locked) from None
            password = self._ask_password(f"password for {self.where}: ")
            options = {**options, "password": password}
        except (asyncssh.Error, OSError, ValueError, asyncio.TimeoutError) as error:
            raise _unreachable(name, _cause(error, login)) from None
        try:
            return await self._authenticate(login, options, login.accepts_any)
        except asyncssh.HostKeyNotVerifiable:
            raise _unknown_key(name) from None
        except asyncssh.PermissionDenied:
            raise _denied(name, login, locked) from None
        except (asyncssh.Error, OSError, ValueError, asyncio.TimeoutError) as error:
            raise _unreachable(name, _cause(error, login)) from None

    async def _authenticate(
        self, login: Login, options: dict[str, Any], any_key: bool = False
    ) -> asyncssh.SSHClientConnection:
        known = None if any_key else read_known_hosts((*login.known_hosts, *login.system_known_hosts))
        connection = asyncssh.connect(
            **options,
            username=login.user,
            known_hosts=known,
            client_keys=[str(path) for path in login.identities if path not in _locked_keys(login)] or (),
            client_certs=[str(path) for path in login.certificates],
            ignore_encrypted=True,
            agent_path=login.agent or None,
            keepalive_interval=login.alive_interval or KEEPALIVE_SECONDS,
            keepalive_count_max=login.alive_count if login.alive_interval else KEEPALIVES,
        )
        return await self._open.enter_async_context(connection)

    def _options(self, login: Login, tunnel: Optional[asyncssh.SSHClientConnection]) -> dict[str, Any]:
        """The arguments of asyncssh that concern the connection, not the login."""
        options: dict[str, Any] = {"host": login.host, "port": login.port, "config": [self._write_config(login)]}
        options["connect_timeout"] = login.connect_timeout or CONNECT_SECONDS
        if login.key_name:
            options["host_key_alias"] = login.key_name
        if tunnel is not None:
            options["tunnel"] = tunnel
        elif login.proxy_command:
            options["proxy_command"] = ["/bin/sh", "-c", f"exec {login.proxy_command}"]
        return options

    def _write_config(self, login: Login) -> str:
        """Write the options that asyncssh reads by itself into a temporary file."""
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="edgetl-"))
        path = Path(folder, "config")
        path.write_text("".join(f"{line}\n" for line in login.lines))
        return str(path)

    async def _accept_key(
        self, login: Login, options: dict[str, Any], name: str, error: asyncssh.HostKeyNotVerifiable
    ) -> None:
        """Accept the key of a host that was refused, and remember it if the host is new; raise if it may not be."""
        host, port = (login.key_name, 22) if login.key_name else (login.host, login.port)
        if is_known(read_known_hosts((*login.known_hosts, *login.system_known_hosts)), host, port):
            if login.accepts_any:
                return
            raise _changed_key(name, host, port, login, str(error)) from None
        if not (self._accepts_new or login.accepts_new):
            raise _unknown_key(name) from None
        try:
            seconds = options["connect_timeout"]
            anonymous = {name: value for name, value in options.items() if name not in ("connect_timeout",)}
            key = await asyncio.wait_for(asyncssh.get_server_host_key(**anonymous), seconds)
        except (asyncssh.Error, OSError, ValueError, asyncio.TimeoutError) as problem:
            raise _unreachable(name, _cause(problem, login)) from None
        if key is None:
            raise _unknown_key(name) from None
        if login.known_hosts:
            add_key(login.known_hosts[0], host, port, key, login.hashes_names)
        elif not login.accepts_any:
            raise DeviceError(f"the key of {name} cannot be kept: UserKnownHostsFile is none; name a file there")

    def _wait(self, operation: Awaitable[_Value]) -> _Value:
        """Run an asynchronous operation to its end; its errors become one line that says what to do."""
        try:
            return self._loop.run_until_complete(operation)
        except (asyncssh.Error, OSError, ValueError, asyncio.TimeoutError) as error:
            raise self._broken(" ".join(str(error).split())[:200]) from None

    def _broken(self, reason: str) -> DeviceError:
        return DeviceError(
            f"cannot reach {self.where}: {reason or 'no answer'}; check that it is on, then run the command "
            "again: what has arrived is kept"
        )


def _unreachable(name: str, cause: str) -> DeviceError:
    return DeviceError(f"cannot reach {name}: {cause}")


def _octal(character: str) -> str:
    if character in _SAFE:
        return character
    return "".join(f"\\0{byte:03o}" for byte in os.fsencode(character))


def _after(complaints: bytes, marker: str) -> str:
    """Error messages after the marker; all of them if the shell did not get that far."""
    text = complaints.decode(errors="replace")
    return text.partition(f"{marker}\n")[2] if f"{marker}\n" in text else text


def _locked_keys(login: Login) -> list[Path]:
    """The private keys that need a passphrase, or cannot be read."""
    locked = []
    for path in login.identities:
        try:
            asyncssh.read_private_key(path)
        except (ValueError, OSError):
            locked.append(path)
    return locked


def _denied(name: str, login: Login, locked: Sequence[Path]) -> DeviceError:
    if locked:
        return DeviceError(
            f"{name} accepts none of your keys; {locked[0]} is encrypted or unreadable, and no agent holds it: "
            f"ssh-add {shlex.quote(str(locked[0]))}"
        )
    return DeviceError(f"{name} accepts none of your keys; install one: ssh-copy-id {login.name}")


def _unknown_key(name: str) -> DeviceError:
    return DeviceError(
        f"the host key of {name} is unknown; compare it and log in once with ssh, or accept the key of a new host with "
        "--accept-new-host-key"
    )


def _changed_key(name: str, host: str, port: int, login: Login, reason: str) -> DeviceError:
    if "revoked" in reason.lower():
        return DeviceError(f"the host key of {name} is revoked in a known_hosts file; do not use this host")
    entry = host if port == 22 else f"[{host}]:{port}"
    file = login.known_hosts[0] if login.known_hosts else "known_hosts"
    return DeviceError(
        f"the host key of {name} is not the known one: the host was reinstalled, or another one answers; if you expect "
        f"that: ssh-keygen -R '{entry}' -f {shlex.quote(str(file))}"
    )


def _cause(error: Exception, login: Login) -> str:
    """Why a connection failed, in words that say which of the usual causes it is, and the next step."""
    if isinstance(error, asyncio.TimeoutError):
        seconds = login.connect_timeout or CONNECT_SECONDS
        return f"no answer within {seconds} s; check that it is on and in this network"
    if isinstance(error, ConnectionRefusedError):
        return f"{login.host} refuses connections on port {login.port}; check that it is on and SSH is enabled"
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return f"the name {login.host} is unknown: no name server answers; check this machine's network"
    if isinstance(error, socket.gaierror):
        return f"the name {login.host} is unknown; check the spelling, or use its IP address"
    reason = " ".join(str(error).split())[:200] or "no answer"
    return f"{reason}; check that {login.host} is on, and that its port {login.port} is that of an SSH server"
