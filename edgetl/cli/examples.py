"""Adds examples to the help of a command."""

from __future__ import annotations

from typing import Callable

import click


def examples(*lines: str) -> Callable[[click.Command], click.Command]:
    """Add command lines to the end of a command's help."""

    def add(command: click.Command) -> click.Command:
        command.epilog = "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
        return command

    return add


def examples_of(command: click.Command) -> list[str]:
    """The example command lines in a command's help."""
    lines = (command.epilog or "").splitlines()
    return [line.strip() for line in lines if line.startswith("  ")]
