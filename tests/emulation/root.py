"""Hides how the files of an emulated machine come about, and that they are made once and kept in the user's cache."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.emulation import debian
from tests.emulation.cache import kept
from tests.emulation.debian import own_architecture, unpack
from tests.emulation.machines import ARM64, ARMHF, REPOSITORY, Machine
from tests.emulation.tools import tell

EMULATOR_SUITE = "trixie"
"""Its qemu-user is static, and shows the emulated processor in /proc/cpuinfo, which ai-edge-litert reads."""

ACCOUNTS = {
    "etc/passwd": "sshd:*:100:65534::/run/sshd:/usr/sbin/nologin\npi:*:1000:1000::/home/pi:/bin/bash\n",
    "etc/group": "pi:*:1000:\n",
}
"""What Debian's own accounts lack: that of the SSH server and that of the user."""


def emulator(machine: Machine) -> Path:
    """The program that runs a machine's programs. Raises UnavailableError where it cannot be had."""
    return _kept("emulators", EMULATOR_SUITE, _make_emulators) / machine.emulator


def root(machine: Machine) -> Path:
    """A machine's "/", as its operating system comes; it is shared, so do not write to it. Raises UnavailableError."""
    return _kept(f"root-{machine.architecture}", machine, lambda folder: _make_root(folder, machine))


def site(machine: Machine, interpreter: str) -> Path:
    """A folder for PYTHONPATH of all that edgetl needs to run with an interpreter there. Raises UnavailableError."""
    wheels = machine.interpreters[interpreter]
    return _kept(f"site-{machine.architecture}-{interpreter}", wheels, lambda f: _make_site(f, machine, wheels))


def install(wheels: Sequence[object], folder: Path, machine: Machine) -> None:
    """Puts wheels, by name and version or as files, into a folder as a machine's pip would."""
    platforms = [word for platform in machine.platforms for word in ("--platform", platform)]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={machine.python}", *platforms]
    tell(sys.executable, "-m", "pip", "install", *options, "--no-compile", "--target", folder, *wheels)


def build_wheel(folder: Path) -> Path:
    """edgetl's own wheel, made in a folder of this very source by the project's build backend; it must succeed."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    return next(folder.glob("edgetl-*.whl"))


def _kept(name: str, ingredients: object, make: Callable[[Path], None]) -> Path:
    """What these modules make of the ingredients; anew after a change of either."""
    steps = "".join(Path(module.__file__ or "").read_text() for module in (sys.modules[__name__], debian))
    return kept(name, repr(ingredients) + steps, make)


def _make_emulators(folder: Path) -> None:
    unpacked = folder.with_name(f"{folder.name}.all")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpack(unpacked, ["qemu-user"], own_architecture(), EMULATOR_SUITE)
    folder.mkdir()
    for machine in (ARM64, ARMHF):
        shutil.move(unpacked / "usr/bin" / machine.emulator, folder)
    shutil.rmtree(unpacked)


def _make_root(folder: Path, machine: Machine) -> None:
    unpack(folder, machine.packages, machine.architecture, machine.suite)
    _do_as_the_scripts_would(folder, machine)
    _compile(folder, machine)


def _make_site(folder: Path, machine: Machine, wheels: Sequence[str]) -> None:
    install(wheels, folder, machine)
    _compile(folder, machine)


def _do_as_the_scripts_would(folder: Path, machine: Machine) -> None:
    """What the packages' own scripts leave behind where they are installed: accounts, and one library of several."""
    for path, lines in ACCOUNTS.items():
        master = folder / "usr/share/base-passwd" / f"{Path(path).name}.master"
        (folder / path).write_text(master.read_text() + lines)
    shell = folder / "usr/bin/sh"
    if (folder / "usr/bin/bash").exists() and not shell.is_symlink():
        shell.symlink_to("bash")
    libraries = folder / "usr/lib" / machine.libraries
    for name in ("blas", "lapack"):
        if (libraries / name).exists():
            (libraries / f"lib{name}.so.3").symlink_to(f"{name}/lib{name}.so.3")


def _compile(folder: Path, machine: Machine) -> None:
    """Byte code, which takes an emulated Python minutes; another Python's would not do, so then there is none."""
    if sys.version_info[:2] == tuple(int(part) for part in machine.python.split(".")):
        compileall.compile_dir(folder, maxlevels=30, quiet=2, workers=0)
