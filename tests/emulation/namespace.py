"""Runs a program of another architecture as the first one of a machine of its own; `device` starts this as a script.

    python namespace.py ROOT EMULATOR ELF_CLASS ELF_MACHINE PROGRAM...

ROOT is its "/". Users, mounts, processes and its name are its own, and the emulator is known (binfmt_misc) there only,
for which Linux 6.7 is needed, and root's rights; the network is the host's. SIGTERM ends it, and so does the end of the
process that started it. Exit code 69 means that the kernel refuses; a line on stderr says what.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x04000000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
PR_SET_PDEATHSIG = 1

REFUSED = 69
"""EX_UNAVAILABLE of sysexits.h."""

USERS = 65536
NAME = "raspberrypi"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
BINFMT = Path("/proc/sys/fs/binfmt_misc")

ELF_MASK = bytes([255] * 7 + [0] + [255] * 8 + [254, 255, 255, 255])
"""Which bits of an ELF header count: all but the ABI, and that it may be position-independent (e_type 2 or 3)."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(root: Path, emulator: Path, elf_class: int, elf_machine: int, program: list[str]) -> int:
    """Returns the program's exit code."""
    _end_with_parent()
    unshared, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        os.close(unshared[1])
        if os.read(unshared[0], 1):
            _map_users(child)
            os.write(mapped[1], b"1")
        return _exit_code(child, signal.SIGTERM)
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID)
    os.write(unshared[1], b"1")
    os.read(mapped[0], 1)
    _end_with_parent()  # the new rights made the kernel forget
    first = os.fork()
    if first:
        return _exit_code(first, signal.SIGKILL)
    _end_with_parent()
    socket.sethostname(NAME)
    _mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)
    _register(emulator, elf_class, elf_machine)
    _furnish(root)
    _start(root, program)


def _map_users(process: int) -> None:
    """Users and groups keep their numbers; only a process outside may give it more than its own."""
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{process}/{kind}").write_text(f"0 0 {USERS}\n")


def _start(root: Path, program: list[str]) -> NoReturn:
    os.chroot(root)
    os.chdir("/")
    os.execve(program[0], program, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _end_with_parent() -> None:
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _exit_code(child: int, ended_by: signal.Signals) -> int:
    """Waits for a child, which SIGTERM ends: with the first process of a machine, the kernel ends all others."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, ended_by))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _register(emulator: Path, elf_class: int, elf_machine: int) -> None:
    """Has the kernel run programs of an architecture by the emulator, opened now (F), with their own name (P).

    See the kernel's Documentation/admin-guide/binfmt-misc.rst.
    """
    header = b"\x7fELF" + bytes([elf_class, 1, 1]) + bytes(9) + (2).to_bytes(2, "little")
    magic = header + elf_machine.to_bytes(2, "little")
    _mount("binfmt_misc", BINFMT, kind="binfmt_misc")
    (BINFMT / "register").write_text(f":emulator:M::{_escaped(magic)}:{_escaped(ELF_MASK)}:{emulator}:PF")


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _furnish(root: Path) -> None:
    """The file systems that a running machine has."""
    _mount("proc", root / "proc", kind="proc", flags=MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount("tmpfs", root / "run", kind="tmpfs", flags=MS_NOSUID | MS_NODEV, options="mode=755")
    (root / "run/sshd").mkdir()
    devices = root / "dev"
    _mount("tmpfs", devices, kind="tmpfs", flags=MS_NOSUID, options="mode=755")
    for name in DEVICES:
        (devices / name).touch()
        _mount(f"/dev/{name}", devices / name, flags=MS_BIND)
    for name in ("pts", "shm"):
        (devices / name).mkdir()
    (devices / "shm").chmod(0o1777)
    _mount("devpts", devices / "pts", kind="devpts", options="newinstance,ptmxmode=0666,mode=620")
    (devices / "ptmx").symlink_to("pts/ptmx")
    (devices / "fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (devices / name).symlink_to(f"/proc/self/fd/{number}")


def _mount(source: str, place: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    _call("mount", source.encode(), bytes(place), kind.encode(), flags, options.encode(), about=str(place))


def _call(name: str, *arguments: object, about: str = "") -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"{name} {about}".strip())


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]))
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(REFUSED)
