"""The machines that are emulated, as data: another one is one more value here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

OLDEST_INTERPRETER = "tflite-runtime==2.14.0"
NUMPY_1 = "numpy==1.26.4"
"""The newest numpy that tflite-runtime accepts."""

SYSTEM = (
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "libstdc++6",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "sed",
    "tar",
    "util-linux",
)
"""What of a Raspberry Pi OS an edgetl device and the deployment to it use; apt adds what these need."""


@dataclass(frozen=True)
class Machine:
    """A board with its operating system: how it is emulated, and what is installed on it."""

    name: str
    """What `uname -m` says there; wheels are named by it too."""
    architecture: str
    """As Debian calls it."""
    libraries: str
    """The folder of its libraries under /usr/lib."""
    emulator: str
    """The program of qemu-user that runs its programs."""
    processor: str
    """The processor that is emulated, as `QEMU_CPU` takes it."""
    elf_class: int
    """EI_CLASS of its programs: 1 for 32 bits, 2 for 64 bits (ELF specification, chapter 4)."""
    elf_machine: int
    """e_machine of its programs."""
    interpreters: Mapping[str, tuple[str, ...]]
    """By TFLite interpreter, the wheels that edgetl needs to run with it; Debian's packages give the rest."""
    packages: tuple[str, ...] = SYSTEM
    suite: str = "bookworm"
    python: str = "3.11"
    """The Python of that suite."""

    @property
    def platforms(self) -> tuple[str, ...]:
        """The wheel platforms that its C library takes, the newest first (PEP 600; bookworm has glibc 2.36)."""
        return (*(f"manylinux_2_{minor}_{self.name}" for minor in range(36, 16, -1)), f"manylinux2014_{self.name}")


def _pinned(*packages: str) -> tuple[str, ...]:
    """The packages with the versions that the project is tested with."""
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    versions = {line.partition("==")[0].lower(): line for line in lines}
    return tuple(versions[package] for package in packages)


_COMMAND_LINE = _pinned("click", "rich", "markdown-it-py", "mdurl", "pygments")

ARM64 = Machine(
    name="aarch64",
    architecture="arm64",
    libraries="aarch64-linux-gnu",
    emulator="qemu-aarch64",
    processor="cortex-a72",
    elf_class=2,
    elf_machine=183,
    interpreters={
        "ai-edge-litert": (*_pinned("ai-edge-litert", "numpy", "pillow"), *_COMMAND_LINE),
        "tflite-runtime": (OLDEST_INTERPRETER, NUMPY_1, *_pinned("pillow"), *_COMMAND_LINE),
    },
)
"""A Raspberry Pi 4 with the 64-bit Raspberry Pi OS."""

ARMHF = Machine(
    name="armv7l",
    architecture="armhf",
    libraries="arm-linux-gnueabihf",
    emulator="qemu-arm",
    processor="cortex-a7",
    elf_class=1,
    elf_machine=40,
    interpreters={"tflite-runtime": (OLDEST_INTERPRETER, *_COMMAND_LINE)},
    packages=(*SYSTEM, "python3-numpy", "python3-pil"),
)
"""A Raspberry Pi 2 with the 32-bit Raspberry Pi OS, whose numpy and Pillow are Debian's."""
