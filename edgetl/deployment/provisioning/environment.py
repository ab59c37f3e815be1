"""Installs edgetl on a device that has only Python, in an environment of its own, from wheels that the host sends.

Nothing outside the user's ~/.local/share/edgetl changes on the device, which needs no internet, pip or root access.
Each environment is stored under the digest of edgetl's wheel, and a link points to the one that is used.
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
from typing import TYPE_CHECKING, Any, Optional, cast

import edgetl
from edgetl.deployment.answers import parse
from edgetl.deployment.provisioning import probe, unpack
from edgetl.deployment.remote_verbs import inventory
from edgetl.deployment.transport import LocalTransport, Transport
from edgetl.errors import DeviceError, OptionError
from edgetl.progress import Progress
from edgetl.runtime.system import DATA_FOLDERS, data_folder

if TYPE_CHECKING:
    from edgetl.deployment.transport import SshTransport

FOLDER = ".local/share/edgetl"
"""Relative to the user's home."""
OLDEST_PYTHON = (3, 9)
FREE_BYTES = 400_000_000
"""Space for an environment with all dependencies and, during the installation, for their wheels."""
COMMON = ("click", "rich")
WITH_WHEELS = ("numpy", "pillow", "ai-edge-litert", "cryptography")
"""For 64-bit machines, besides COMMON."""
WITHOUT_WHEELS = ("markdown-it-py", "mdurl", "pygments", "tflite-runtime")
"""For 32-bit ARM, besides COMMON. PyPI has no numpy or Pillow for it, so pip must not resolve dependencies, and
those of COMMON are listed here."""
LICENCES = ("LICENSE", "NOTICE")


@dataclass(frozen=True)
class Machine:
    """A device as seen without edgetl on it."""

    python: tuple[int, int]
    architecture: str
    glibc: str
    system: Optional[str]
    """Name and version of the operating system."""
    board: Optional[str]
    memory_bytes: int
    free_bytes: int
    packages: tuple[str, ...]
    """Which of numpy and PIL the operating system provides."""
    environment: Optional[str]
    """Digest of its edgetl environment; None if it has none that runs."""
    edgetpus: int
    """Number of Edge TPUs that are plugged in."""
    edgetpu_runtime: Optional[str]
    """Version string of libedgetpu; None if it is not installed."""
    camera: Optional[str] = None
    """The operating system's camera library, "picamera2" or "cv2"; None if it has neither."""
    environment_camera: Optional[str] = None
    """The camera library that the edgetl environment can load."""
    numpy: Optional[str] = None
    """The version of the operating system's numpy."""
    home_fault: str = ""
    """Why nothing can be installed in the home; empty if it can."""

    @property
    def misses_camera(self) -> bool:
        """Whether the environment cannot load the camera library that the device has."""
        return self.camera is not None and self.environment_camera is None

    @property
    def is_32_bit_arm(self) -> bool:
        """Whether numpy and Pillow must come from the operating system."""
        return self.architecture in ("armv7l", "armv6l")

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Prepared:
    """A device that has the environment of this edgetl."""

    where: str
    changed: bool
    """False if it had this environment before."""
    environment: str
    """Digest of the environment."""
    machine: Machine
    sent_bytes: int = 0
    """Size of the wheels that were sent."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return {key: value for key, value in asdict(self).items() if self.changed or key != "sent_bytes"}


def require_ssh(transport: Transport) -> SshTransport:
    """The transport, if it is a connection to a device over SSH.

    Raises:
        OptionError: it is a folder of this machine.
    """
    if isinstance(transport, LocalTransport):
        raise OptionError(
            f"{transport.where} is a folder of this machine, which has edgetl; deploy to it, or check this machine: "
            "edgetl doctor"
        )
    return cast("SshTransport", transport)


def probe_machine(transport: SshTransport) -> Machine:
    """What a device is. It needs Python 3 of any version there, and changes nothing.

    Raises:
        DeviceError: the device cannot be reached, or has no Python 3.
    """
    return parse(Machine, transport.run_module(probe, FOLDER), transport.where)


def own_environment() -> str:
    """The digest of the environment that a device with exactly this edgetl has."""
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        return _digest(_pack_own_wheel(Path(folder)))


def obstacles(machine: Machine) -> dict[str, str]:
    """What prevents the installation of edgetl: messages by subject, each to be read after the name of the device."""
    found = {"home": machine.home_fault} if machine.home_fault else {}
    python, minimum = _dotted(machine.python), _dotted(OLDEST_PYTHON)
    if machine.python < OLDEST_PYTHON:
        found["Python"] = f"has Python {python}; edgetl needs {minimum} or newer there"
    if machine.free_bytes < FREE_BYTES:
        free, needed = machine.free_bytes / 1e6, FREE_BYTES / 1e6
        found["free space"] = f"has {free:.0f} MB free; edgetl needs {needed:.0f} MB: free some space"
    if machine.is_32_bit_arm and set(machine.packages) != {"numpy", "PIL"}:
        found["packages"] = "needs two packages of its operating system: sudo apt install python3-numpy python3-pil"
    if machine.is_32_bit_arm and (machine.architecture == "armv6l" or machine.python > (3, 11)):
        found["interpreter"] = (
            f"has no TFLite interpreter for {machine.architecture} with Python {python}; "
            "install a 64-bit Raspberry Pi OS"
        )
    return found


def camera_advice(machine: Machine) -> str:
    """What to do so that `edgetl run --source camera` finds a camera library; empty if it does."""
    if machine.camera is None and machine.environment_camera is None:
        return "for --source camera: sudo apt install python3-picamera2 (Raspberry Pi) or python3-opencv, then prepare"
    if machine.environment is not None and machine.misses_camera:  # an environment to come will see it
        return "edgetl cannot load it; update its environment: edgetl prepare HOST"
    return ""


def prepare(transport: Transport, progress: Optional[Progress] = None) -> Prepared:
    """Install the environment of this edgetl on a device, unless it has it.

    Raises:
        OptionError: the device is a folder of this machine.
        DeviceError: the device cannot be reached, lacks space, Python or packages, or there are no wheels for it.
    """
    device = require_ssh(transport)
    machine = probe_machine(device)
    for obstacle in obstacles(machine).values():
        raise DeviceError(f"{device.where} {obstacle}")
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        digest = _digest(_pack_own_wheel(Path(folder)))
        if machine.environment == digest and not machine.misses_camera:
            return Prepared(device.where, False, digest, machine)
        _download(machine, Path(folder), device.where)
        wheels = sorted(Path(folder).glob("*.whl"))
        names = [device.send(wheel, FOLDER, progress) for wheel in wheels]
        sent_bytes = sum(wheel.stat().st_size for wheel in wheels)
    device.run_module(unpack, FOLDER, digest, str(int(_needs_system_packages(machine))), *names)
    for name in names:
        device.remove(name)
    device.use_environment()
    inventory(device)  # it must answer before it counts as prepared
    return Prepared(device.where, True, digest, machine, sent_bytes)


def _needs_system_packages(machine: Machine) -> bool:
    """Whether the environment must see the operating system's packages: numpy and Pillow, or the camera library."""
    return machine.is_32_bit_arm or machine.camera is not None


def _digest(own_wheel: Path) -> str:
    return hashlib.sha256(own_wheel.read_bytes()).hexdigest()[:16]


def _download(machine: Machine, folder: Path, where: str) -> None:
    """Download the wheels of edgetl's dependencies for a machine."""
    packages = [*COMMON, *(WITHOUT_WHEELS if machine.is_32_bit_arm else WITH_WHEELS)]
    if machine.python < (3, 11):
        packages.append("tomli")
    requirements = [*(["--no-deps"] if machine.is_32_bit_arm else []), *map(_requirement, packages)]
    requirements += _numpy_range(machine)
    minor = int(machine.glibc.split(".")[1]) if machine.glibc.startswith("2.") else 17
    tags = [f"manylinux_2_{version}_{machine.architecture}" for version in range(minor, 16, -1)]
    platforms = [word for tag in (*tags, f"manylinux2014_{machine.architecture}") for word in ("--platform", tag)]
    version = ["--implementation", "cp", "--python-version", _dotted(machine.python), "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    ran = subprocess.run([*command, *version, *platforms, *requirements], capture_output=True, text=True)
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
        raise DeviceError(
            f"cannot get the wheels for {where} ({machine.architecture}, Python {_dotted(machine.python)}): "
            f"{errors[-1]}"
        )


def _numpy_range(machine: Machine) -> list[str]:
    """The major version of numpy for which the system's camera library was compiled."""
    if machine.is_32_bit_arm or machine.camera is None or machine.numpy is None:
        return []
    return ["numpy<2" if machine.numpy.startswith("1.") else "numpy>=2"]


def _requirement(package: str) -> str:
    """A package with the version range in edgetl's own metadata; just its name if the metadata does not list it."""
    required = [line.partition(";")[0].strip() for line in importlib.metadata.requires("edgetl") or []]
    return next((line for line in required if re.match(re.escape(package) + r"(?![\w.-])", line)), package)


def _pack_own_wheel(folder: Path) -> Path:
    """Write this edgetl as a wheel (PEP 427). A checkout and an installed wheel of the same code give equal files."""
    package, version = Path(edgetl.__file__).parent, edgetl.__version__
    files = _read_files(package, "edgetl")
    for name in DATA_FOLDERS:
        files.update(_read_files(data_folder(name), f"edgetl/{name}"))
    info = f"edgetl-{version}.dist-info"
    files.update({f"{info}/licenses/{name}": _read_licence(name) for name in LICENCES})
    # The installed metadata is not used: in a checkout it may be outdated, and it contains the README.
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
    """The files of a folder, by their names in the wheel, where the folder is called `name`."""
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
