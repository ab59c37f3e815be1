"""Runs one program of an emulated machine on this host, without privileges.

Its files are the host's, at the host's paths. It can fork, but not start programs: a `Device` can.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.emulation.machines import Machine
from tests.emulation.root import build_wheel, emulator, install, root, site

PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class EmulatedPython:
    """The Python of a machine, with edgetl and one interpreter. `in_folder` makes one."""

    command: tuple[str, ...]
    """The host's command for it; Python's arguments follow."""
    environment: dict[str, str]
    """All that it sees of the host's environment."""
    folder: Path
    """Where it runs, and its user's home."""

    @classmethod
    def in_folder(cls, folder: Path, machine: Machine, interpreter: str) -> EmulatedPython:
        """A Python that edgetl's own wheel is installed for, in a new folder. Raises UnavailableError."""
        system, packages, program = root(machine), site(machine, interpreter), emulator(machine)
        installed = folder / "installed"
        install([build_wheel(folder)], installed, machine)
        python = system / "usr/bin" / f"python{machine.python}"
        return cls(
            command=(str(program), "-cpu", machine.processor, "-L", str(system), str(python)),
            environment={
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": os.pathsep.join([str(installed), str(packages)]),
            },
            folder=folder,
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Python with these arguments, to its end."""
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Python with these arguments; what it prints can be read while it runs."""
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
