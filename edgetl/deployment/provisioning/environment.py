"""Hides how a device that has only Python gets edgetl: in an environment of its own, from wheels that the host brings.

Nothing outside the user's ~/.local/share/edgetl changes there, and the device needs no internet, pip or root's rights.
An environment lies beside the others under the digest of its wheels, and a link says which one is used.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import edgetl
from edgetl.deployment.provisioning import probe, unpack
from edgetl.deployment.transport.ssh import SshTransport
from edgetl.errors import DeviceError
from edgetl.progress import Progress

FOLDER = ".local/share/edgetl"
"""From the user's home."""
OLDEST_PYTHON = (3, 9)
FREE_BYTES = 400_000_000
"""What an environment with all that edgetl needs takes, and what its wheels take on the way."""
COMMON = ("click>=8.1", "rich>=13")
WITHOUT_WHEELS = ("markdown-it-py", "mdurl", "pygments", "tflite-runtime==2.14.0")
"""For 32-bit ARM, of which PyPI has no numpy or Pillow; these are named one by one, for pip would look for both."""


@dataclass(frozen=True)
class Machine:
    """What there is to know of a device before edgetl is there."""

    python: tuple[int, int]
    architecture: str
    glibc: str
    system: Optional[str]
    """The name and version of its operating system."""
    board: Optional[str]
    memory_bytes: int
    free_bytes: int
    packages: tuple[str, ...]
    """Which of numpy and PIL its operating system brings."""
    environment: Optional[str]
    """The digest of edgetl's environment there, if there is one."""
    edgetpus: int
    """How many Edge TPUs are plugged in."""
    edgetpu_runtime: Optional[str]
    """What libedgetpu says of itself; None where it is not installed."""

    @property
    def is_32_bit_arm(self) -> bool:
        """Whether numpy and Pillow must come from the operating system."""
        return self.architecture in ("armv7l", "armv6l")

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def look_at(transport: SshTransport) -> Machine:
    """What a device is; needs its Python 3, of any version, and changes nothing.

    Raises:
        DeviceError: it cannot be reached, or has no Python 3.
    """
    answer = transport.run_module(probe, FOLDER)
    return Machine(**{**answer, "python": tuple(answer["python"]), "packages": tuple(answer["packages"])})


def own_environment() -> str:
    """The digest of the environment that a device with this very edgetl has."""
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        return _digest(_pack_own_wheel(Path(folder)))


def obstacles(machine: Machine) -> dict[str, str]:
    """What keeps a machine from having edgetl, by what it is about, to be read behind the machine's name."""
    found = {}
    python, minimum = _dotted(machine.python), _dotted(OLDEST_PYTHON)
    if machine.python < OLDEST_PYTHON:
        found["Python"] = f"has Python {python}; edgetl needs {minimum} or newer there"
    if machine.free_bytes < FREE_BYTES:
        free, wanted = machine.free_bytes / 1e6, FREE_BYTES / 1e6
        found["free space"] = f"has {free:.0f} MB free; edgetl takes {wanted:.0f} MB: free some space"
    if machine.is_32_bit_arm and set(machine.packages) != {"numpy", "PIL"}:
        found["packages"] = "needs two packages of its own: sudo apt install python3-numpy python3-pil"
    if machine.is_32_bit_arm and (machine.architecture == "armv6l" or machine.python > (3, 11)):
        found["interpreter"] = (
            f"finds no TFLite interpreter for {machine.architecture} with Python {python}; "
            "put a 64-bit Raspberry Pi OS on it"
        )
    return found


def prepare(transport: SshTransport, progress: Optional[Progress] = None) -> dict[str, Any]:
    """Give a device the environment of this very edgetl; one that has it is left alone. Returns what was done.

    Raises:
        DeviceError: there are no wheels for the device, or it has not the space, or not what it must bring itself.
    """
    machine = look_at(transport)
    for complaint in obstacles(machine).values():
        raise DeviceError(f"{transport.where} {complaint}")
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        own = _pack_own_wheel(Path(folder))
        digest = _digest(own)
        if machine.environment == digest:
            return {"where": transport.where, "changed": False, "environment": digest, "machine": machine.to_dict()}
        _download(machine, Path(folder), transport.where)
        wheels = sorted(Path(folder).glob("*.whl"))
        names = [transport.send(wheel, FOLDER, progress) for wheel in wheels]
        sent_bytes = sum(wheel.stat().st_size for wheel in wheels)
    transport.run_module(unpack, FOLDER, digest, str(int(machine.is_32_bit_arm)), *names)
    for name in names:
        transport.remove(name)
    transport.use_environment()
    transport.tell("status")
    return {
        "where": transport.where,
        "changed": True,
        "environment": digest,
        "sent_bytes": sent_bytes,
        "machine": machine.to_dict(),
    }


def _digest(own_wheel: Path) -> str:
    return hashlib.sha256(own_wheel.read_bytes()).hexdigest()[:16]


def _download(machine: Machine, folder: Path, where: str) -> None:
    """The wheels of all that edgetl needs on a machine, but its own."""
    if machine.is_32_bit_arm:
        requirements = ["--no-deps", *COMMON, *WITHOUT_WHEELS]
    else:
        requirements = [*COMMON, "numpy>=1.22", "pillow>=9.4", "ai-edge-litert>=2.1", "cryptography>=42"]
    if machine.python < (3, 11):
        requirements.append("tomli>=2")
    minor = int(machine.glibc.split(".")[1]) if machine.glibc.startswith("2.") else 17
    tags = [f"manylinux_2_{version}_{machine.architecture}" for version in range(minor, 16, -1)]
    platforms = [word for tag in (*tags, f"manylinux2014_{machine.architecture}") for word in ("--platform", tag)]
    version = ["--implementation", "cp", "--python-version", _dotted(machine.python), "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    ran = subprocess.run([*command, *version, *platforms, *requirements], capture_output=True, text=True)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
        raise DeviceError(
            f"cannot get the wheels for {where} ({machine.architecture}, Python {_dotted(machine.python)}): {said[-1]}"
        )


def _pack_own_wheel(folder: Path) -> Path:
    """This very edgetl as a wheel (PEP 427), however it was installed; the same code gives the same bytes."""
    package, version = Path(edgetl.__file__).parent, edgetl.__version__
    metadata = importlib.metadata.distribution("edgetl").read_text("METADATA") or ""
    files = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = f"edgetl-{version}.dist-info"
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: edgetl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    path = folder / f"edgetl-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def _record(files: dict[str, bytes], own_name: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return ("\n".join([*lines, f"{own_name},,"]) + "\n").encode()


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
