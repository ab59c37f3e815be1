"""Reads how a host is reached from OpenSSH's configuration, which OpenSSH's own client evaluates (`ssh -G`)."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgetl.errors import OptionError

EVALUATION_SECONDS = 30
"""Deadline for the evaluation, which may run the commands of `Match exec`."""

_DESTINATION = re.compile(
    r"(ssh://)?((?P<user>[^@\s-][^@\s]*)@)?(?P<host>[\w.][\w.-]*|\[[\w:.%]+\])(:(?P<port>\d{1,5}))?"
)
_PASSED_ON = (
    "addressfamily",
    "bindaddress",
    "ciphers",
    "compression",
    "kbdinteractiveauthentication",
    "kexalgorithms",
    "macs",
    "passwordauthentication",
    "preferredauthentications",
    "pubkeyauthentication",
    "tcpkeepalive",
)
"""Options that asyncssh reads as OpenSSH prints them."""
_NEVER, _ACCEPT_NEW, _ANY = {"yes", "true", "ask"}, {"accept-new"}, {"no", "false", "off"}


@dataclass(frozen=True)
class Login:
    """How one host is reached."""

    name: str
    """The host as the user or the configuration calls it."""
    host: str
    """The address to connect to."""
    port: int
    user: str
    key_name: str
    """The name under which the host's key is known."""
    known_hosts: tuple[Path, ...]
    """Files with keys of hosts. New keys are added to the first."""
    system_known_hosts: tuple[Path, ...]
    accepts_new: bool
    """Whether the key of an unknown host is accepted."""
    accepts_any: bool
    """Whether even a changed key is accepted."""
    hashes_names: bool
    """Whether the names of hosts are hashed in `known_hosts`."""
    identities: tuple[Path, ...]
    """Existing private keys, in their order."""
    certificates: tuple[Path, ...]
    identities_only: bool
    agent: str
    """The agent's socket; empty for none."""
    jumps: tuple[str, ...]
    """Hosts through which this one is reached, the first one first."""
    proxy_command: Optional[str]
    alive_interval: int
    """Seconds; 0 if the configuration names none."""
    alive_count: int
    connect_timeout: Optional[int]
    """Seconds; None if the configuration names none."""
    lines: tuple[str, ...]
    """Further options, as lines of a configuration that asyncssh understands."""


def resolve(where: str, config: Optional[Path]) -> Login:
    """How [USER@]HOST[:PORT] is reached according to a configuration file; None means the user's and the system's.

    Raises:
        OptionError: `where` is invalid, or OpenSSH does not accept the configuration.
    """
    match = _DESTINATION.fullmatch(where)
    if match is None:
        raise OptionError(f"invalid device '{where}': expected [USER@]HOST[:PORT], or a folder such as ./device")
    host, user, port = match["host"].strip("[]"), match["user"], match["port"]
    if port and not 0 < int(port) < 65536:
        raise OptionError(f"invalid device '{where}': the port must be 1 to 65535")
    return _login(where, host, _evaluate(host, user, port, config))


def _evaluate(host: str, user: Optional[str], port: Optional[str], config: Optional[Path]) -> dict[str, list[str]]:
    """The values of every option for a host, by its name in lower case."""
    if shutil.which("ssh") is None:
        raise OptionError("OpenSSH's client, which evaluates the SSH configuration, is missing: install openssh-client")
    command = ["ssh", "-G", *_config_arguments(config)]
    command += ["-l", user] if user else []
    command += ["-p", port] if port else []
    try:
        ran = subprocess.run(
            [*command, "--", host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=EVALUATION_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise OptionError(
            f"the SSH configuration was not evaluated within {EVALUATION_SECONDS} s; check its lines Match exec"
        ) from None
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line and not line.startswith("Pseudo-terminal")]
        raise OptionError(f"ssh does not accept the configuration for {host}: {' '.join(lines[:2]) or 'no reason'}")
    options: dict[str, list[str]] = defaultdict(list)
    for line in ran.stdout.splitlines():
        name, _, value = line.partition(" ")
        options[name.lower()].append(value)
    return options


def _config_arguments(config: Optional[Path]) -> list[str]:
    """OpenSSH looks in the account's home; where HOME is another folder, its configuration is named explicitly."""
    if config is not None:
        return ["-F", str(config)]
    if Path.home() == _account_home():
        return []
    own = Path.home() / ".ssh" / "config"
    return ["-F", str(own) if own.is_file() else "none"]


def _account_home() -> Path:
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def _login(name: str, asked: str, options: dict[str, list[str]]) -> Login:
    def first(option: str, default: str = "") -> str:
        value = (options.get(option) or [default])[0]
        return default if value.lower() == "none" else value

    host, port = first("hostname", asked), int(first("port", "22"))
    tokens = _tokens(asked, host, port, first("user"), first("hostkeyalias", asked))
    strict = first("stricthostkeychecking", "ask").lower()
    seconds = first("connecttimeout")
    return Login(
        name=name,
        host=host,
        port=port,
        user=first("user"),
        key_name=first("hostkeyalias"),
        known_hosts=_files(first("userknownhostsfile"), tokens),
        system_known_hosts=_files(first("globalknownhostsfile"), tokens),
        accepts_new=strict in _ACCEPT_NEW | _ANY,
        accepts_any=strict in _ANY,
        hashes_names=first("hashknownhosts") == "yes",
        identities=_existing(options.get("identityfile", []), tokens),
        certificates=_existing(options.get("certificatefile", []), tokens),
        identities_only=first("identitiesonly") == "yes",
        agent=_agent(options, tokens),
        jumps=tuple(hop for hop in first("proxyjump").split(",") if hop),
        proxy_command=_expand(first("proxycommand"), tokens) or None,
        alive_interval=int(first("serveraliveinterval", "0")),
        alive_count=int(first("serveralivecountmax", "3")),
        connect_timeout=int(seconds) if seconds.isdecimal() and int(seconds) else None,
        lines=tuple(f"{option} {value}" for option in _PASSED_ON for value in options.get(option, [])[:1]),
    )


def _tokens(asked: str, host: str, port: int, user: str, key_name: str) -> dict[str, str]:
    """The tokens of ssh_config(5) that may stand in a file name or a proxy command."""
    local = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": host,
        "i": str(os.getuid()),
        "k": key_name,
        "L": local.partition(".")[0],
        "l": local,
        "n": asked,
        "p": str(port),
        "r": user,
        "u": pwd.getpwuid(os.getuid()).pw_name,
    }


def _expand(text: str, tokens: dict[str, str]) -> str:
    replaced = re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)
    return re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), replaced)


def _agent(options: dict[str, list[str]], tokens: dict[str, str]) -> str:
    named = (options.get("identityagent") or ["SSH_AUTH_SOCK"])[0]
    if named.lower() == "none":
        return ""
    if named == "SSH_AUTH_SOCK" or named.startswith("$"):
        return os.environ.get(named.lstrip("$").strip("{}"), "")
    return str(Path(_expand(named, tokens)).expanduser())


def _existing(values: list[str], tokens: dict[str, str]) -> tuple[Path, ...]:
    paths = [Path(_expand(value, tokens)).expanduser() for value in values if value.lower() != "none"]
    return tuple(path for path in paths if path.is_file())


def _files(value: str, tokens: dict[str, str]) -> tuple[Path, ...]:
    """The files that an option lists; OpenSSH prints them without quotes, so one with a space must exist."""
    whole = Path(_expand(value, tokens)).expanduser()
    paths = [whole] if " " in value and whole.exists() else [Path(_expand(word, tokens)) for word in value.split()]
    return tuple(_in_home(path.expanduser()) for path in paths)


def _in_home(path: Path) -> Path:
    """The path under HOME, if OpenSSH has put it under the account's home."""
    folder = _account_home() / ".ssh"
    return Path.home() / ".ssh" / path.relative_to(folder) if folder in path.parents else path
