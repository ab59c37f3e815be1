"""Makes all that is emulated and prints where it lies, or why it cannot be made: `python -m tests.emulation`.

The tests do so themselves when they need it; beforehand, its time is not theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.emulation.machines import ARM64, ARMHF, Machine
from tests.emulation.root import emulator, root, site
from tests.emulation.tools import UnavailableError


def main() -> None:
    for machine in (ARM64, ARMHF):
        print(f"{machine.name} emulator: {_place(emulator, machine)}")
        print(f"{machine.name} root: {_place(root, machine)}")
        for interpreter in machine.interpreters:
            print(f"{machine.name} {interpreter}: {_place(site, machine, interpreter)}")


def _place(make: Callable[..., Path], *about: Machine | str) -> object:
    try:
        return make(*about)
    except UnavailableError as reason:
        return f"none, for {reason}"


if __name__ == "__main__":
    main()
