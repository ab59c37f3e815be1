"""Makes the emulated machines and other Pythons, and prints where they are or why not: `python -m tests.emulation`.

The tests do so themselves when they need them; when it is done beforehand, the time is not counted as theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.emulation.machines import ARM64, ARMHF
from tests.emulation.root import emulator, root, site
from tests.emulation.tools import UnavailableError
from tests.pythons import DEVICE_PYTHONS, environment, oldest_interpreter


def main() -> None:
    for machine in (ARM64, ARMHF):
        print(f"{machine.name} emulator: {_place(emulator, machine)}")
        print(f"{machine.name} root: {_place(root, machine)}")
        for interpreter in machine.interpreters:
            print(f"{machine.name} {interpreter}: {_place(site, machine, interpreter)}")
    print(f"oldest interpreter: {_place(oldest_interpreter)}")
    for version, packages in DEVICE_PYTHONS:
        print(f"Python {version} with {packages[0]}: {_place(environment, version, packages)}")


def _place(make: Callable[..., Path], *about: object) -> object:
    try:
        return make(*about)
    except UnavailableError as reason:
        return f"not available: {reason}"


if __name__ == "__main__":
    main()
