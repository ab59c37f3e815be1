"""Shared by the verbs that reach a device: their options, and how a device is distinguished from a bundle."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.deployment import Transport

BUNDLE_OR_DEVICE = "BUNDLE|[USER@]HOST[:PORT]|FOLDER/"
"""The argument of verbs that accept a bundle here and a device alike; see `is_bundle`."""

Command = Callable[..., Any]


def device_options(command: Command) -> Command:
    """Add the options that say how a device is reached."""
    for option in (
        click.option("--root", help="Folder of the bundles on the device.  [default: ~/.local/share/edgetl]"),
        click.option("--python", help="Python on the device that has edgetl.  [default: edgetl's own, else python3]"),
        click.option("--ssh-config", type=click.Path(path_type=Path), help="Use this instead of ~/.ssh/config."),
        click.option("--accept-new-host-key", is_flag=True, help="Accept the key of a host that is not known yet."),
    ):
        command = option(command)
    return command


def reach(where: str, alone: bool = True, **options: Any) -> Transport:
    """Connect to a device. If only one device is reached at a time, the user may be asked for a password."""
    from edgetl.deployment import connect

    return connect(where, ask_password=password_prompt() if alone else None, **options)


def password_prompt() -> Optional[Callable[[str], str]]:
    """A function that asks the user for a password; None if standard input is not a terminal."""
    return getpass.getpass if sys.stdin.isatty() else None


def is_bundle(where: str) -> bool:
    """Whether an argument is a bundle: an existing file, or a name that ends in .edgetl. Anything else is a device."""
    return where.endswith(".edgetl") or Path(where).is_file()


def require_here(**options: Any) -> None:
    """Raise OptionError if one of `device_options` was given without a device."""
    for name in (name for name, value in options.items() if value):
        raise OptionError(f"--{name.replace('_', '-')} needs a device; name one, e.g. pi@raspberrypi.local")
