"""Hides how a device that has only Python gets edgetl: in an environment of its own, from wheels that the host brings.

Nothing outside the user's ~/.local/share/edgetl changes there, and the device needs no internet, pip or root's rights.
An environment lies beside the others under the digest of its wheels, and a link says which one is used.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
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
from edgetl.runtime.system import DATA_FOLDERS, data_folder

FOLDER = ".local/share/edgetl"
"""From the user's home."""
OLDEST_PYTHON = (3, 9)
FREE_BYTES = 400_000_000
"""What an environment with all that edgetl needs takes, and what its wheels take on the way."""
COMMON = ("click", "rich")
WITH_WHEELS = ("numpy", "pillow", "ai-edge-litert", "cryptography")
"""For 64-bit machines, besides COMMON."""
WITHOUT_WHEELS = ("markdown-it-py", "mdurl", "pygments", "tflite-runtime")
"""For 32-bit ARM, besides COMMON. PyPI has no numpy or Pillow for it, so pip must not resolve dependencies: they are
listed here."""
LICENCES = ("LICENSE", "NOTICE")


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
    packages = [*COMMON, *(WITHOUT_WHEELS if machine.is_32_bit_arm else WITH_WHEELS)]
    if machine.python < (3, 11):
        packages.append("tomli")
    requirements = [*(["--no-deps"] if machine.is_32_bit_arm else []), *map(_requirement, packages)]
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


def _requirement(package: str) -> str:
    """A package with the versions that edgetl's own metadata asks for; one that it does not name, as it is."""
    wanted = [line.partition(";")[0].strip() for line in importlib.metadata.requires("edgetl") or []]
    return next((line for line in wanted if re.match(re.escape(package) + r"(?![\w.-])", line)), package)


def _pack_own_wheel(folder: Path) -> Path:
    """This very edgetl as a wheel (PEP 427); a checkout and an installed wheel of the same code give the same bytes."""
    package, version = Path(edgetl.__file__).parent, edgetl.__version__
    files = _read_files(package, "edgetl")
    for name in DATA_FOLDERS:
        files.update(_read_files(data_folder(name), f"edgetl/{name}"))
    info = f"edgetl-{version}.dist-info"
    files.update({f"{info}/licenses/{name}": _read_licence(name) for name in LICENCES})
    # Not the installed metadata: in a checkout it is as old as the last installation, and the README is part of it.
    minimum = _dotted(OLDEST_PYTHON)
    metadata = f"Metadata-Version: 2.1\nName: edgetl\nVersion: {version}\nRequires-Python: >={minimum}\n"
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: edgetl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = dict(sorted(files.items()))
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    path = folder / f"edgetl-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def _read_files(folder: Path, name: str) -> dict[str, bytes]:
    """The files of a folder, by their names in the wheel, where the folder is `name`."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _read_licence(name: str) -> bytes:
    checkout = Path(edgetl.__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        return (checkout / name).read_bytes()
    return (importlib.metadata.distribution("edgetl").read_text(f"licenses/{name}") or "").encode()


def _record(files: dict[str, bytes], own_name: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return ("\n".join([*lines, f"{own_name},,"]) + "\n").encode()


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
