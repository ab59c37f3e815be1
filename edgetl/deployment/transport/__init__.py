"""Connections to a device: a folder of this machine, or SSH."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from edgetl.deployment.transport.base import PREPARE, TOO_OLD, Answer, Transport, excerpt, is_too_old, read_json_object
from edgetl.deployment.transport.local import LocalTransport

if TYPE_CHECKING:
    from edgetl.deployment.transport.ssh import SshTransport

__all__ = [
    "PREPARE",
    "TOO_OLD",
    "Answer",
    "LocalTransport",
    "SshTransport",
    "Transport",
    "connect",
    "excerpt",
    "is_too_old",
    "read_json_object",
]


def connect(
    where: str,
    root: Optional[str] = None,
    python: Optional[str] = None,
    ssh_config: Optional[Path] = None,
    accept_new_host_key: bool = False,
    ask_password: Optional[Callable[[str], str]] = None,
) -> Transport:
    """Connect to a device: a folder of this machine if `where` contains a slash, else [USER@]HOST[:PORT] over SSH.

    All other arguments apply to SSH only.

    Args:
        where: the device.
        root: folder of the bundles on the device; its own default if None.
        python: the device's Python that has edgetl; if None, edgetl's own environment, else python3.
        ssh_config: read instead of ~/.ssh/config.
        accept_new_host_key: add the key of an unknown host to ~/.ssh/known_hosts.
        ask_password: called with a prompt if the device accepts none of the keys.

    Raises:
        DeviceError: the device cannot be reached.
        MissingExtraError: asyncssh is not installed.
        OptionError: `where` is not a valid device.
    """
    if "/" in where:
        return LocalTransport(Path(where).expanduser())
    from edgetl.deployment.transport.ssh import SshTransport

    return SshTransport(where, root, python, ssh_config, accept_new_host_key, ask_password)


_MODULES = {"SshTransport": "ssh"}
"""What needs asyncssh, which is loaded on first use."""

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
