"""Reports what a device is. Its source is run on devices without edgetl, so it uses the standard library only."""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

EDGETPU_LIBRARY = "libedgetpu.so.1"
EDGETPU_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}
"""Vendor and product of the Coral USB Accelerator, before and after its first use (from Coral's udev rules)."""
RUNS_EDGETL = (
    "import edgetl.runtime.__main__, numpy, PIL; from edgetl.runtime.inference import interpreters; interpreters()"
)
"""Fails in an environment that an upgrade of the operating system has broken."""
CAMERAS = ("picamera2", "cv2")
TRIAL_SECONDS = 120


def probe(folder: str) -> dict[str, object]:
    """The fields of `edgetl.deployment.provisioning.Machine`; `folder` is edgetl's folder, relative to the home."""
    link = os.path.join(folder, "python")
    place = _existing(folder)
    works = os.path.islink(link) and _runs(link, RUNS_EDGETL)
    return {
        "python": sys.version_info[:2],
        "architecture": platform.machine(),
        "glibc": platform.libc_ver()[1],
        "system": _system(),
        "board": _board(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free_bytes": shutil.disk_usage(place).free,
        "packages": [name for name in ("numpy", "PIL") if importlib.util.find_spec(name)],
        "environment": os.path.basename(os.readlink(link)) if works else None,
        "environment_camera": next((name for name in CAMERAS if works and _runs(link, f"import {name}")), None),
        "camera": next((name for name in CAMERAS if importlib.util.find_spec(name)), None),
        "numpy": _numpy_version(),
        "home_fault": _home_fault(place),
        "edgetpus": _edgetpus(),
        "edgetpu_runtime": _edgetpu_runtime(),
    }


def _existing(folder: str) -> str:
    """The folder in which edgetl's folder is or would be created."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder or "."


def _runs(link: str, code: str) -> bool:
    """Whether the environment's Python runs this code."""
    try:
        done = subprocess.run(
            [os.path.join(link, "bin", "python"), "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TRIAL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _numpy_version() -> object:
    """The version of the operating system's numpy, against which its camera library was compiled."""
    from importlib import metadata

    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return None


def _home_fault(place: str) -> str:
    """Why nothing can be installed in a folder of the home; empty if a program can be written and run there."""
    home = os.path.expanduser("~")
    if not os.path.isdir(home):
        return f"has no home folder {home}; create it there"
    try:
        with tempfile.TemporaryDirectory(prefix=".edgetl-", dir=place) as trial:
            program = os.path.join(trial, "program")
            with open(program, "w") as file:
                file.write("#!/bin/sh\nexit 0\n")
            os.chmod(program, 0o700)
            try:
                subprocess.run([program], stdin=subprocess.DEVNULL, check=True)
            except (OSError, subprocess.CalledProcessError):
                return f"does not run programs from {os.path.abspath(place)}; mount it without noexec there"
    except OSError as error:
        return f"cannot write {os.path.abspath(place)}: {error.strerror or error}; make it writable there"
    return ""


def _system() -> object:
    """The readable name of the operating system (os-release(5))."""
    return next((line.partition("=")[2].strip('"') for line in _lines("/etc/os-release", "PRETTY_NAME=")), None)


def _board() -> object:
    return next((line.rstrip("\0") for line in _lines("/proc/device-tree/model")), None)


def _edgetpus() -> int:
    """The number of Edge TPUs, on the board's PCIe bus or on USB."""
    ids = [
        tuple("".join(_lines(os.path.join(device, name))) for name in ("idVendor", "idProduct"))
        for device in glob.glob("/sys/bus/usb/devices/*")
    ]
    return len(glob.glob("/dev/apex_*")) + sum(pair in EDGETPU_USB_IDS for pair in ids)


def _edgetpu_runtime() -> object:
    """The version string of libedgetpu; None if it is not installed."""
    try:
        version = ctypes.CDLL(EDGETPU_LIBRARY).edgetpu_version
    except (OSError, AttributeError):
        return None
    version.restype = ctypes.c_char_p
    return (version() or b"").decode(errors="replace")


def _lines(path: str, start: str = "") -> list[str]:
    """The lines of a file that begin with `start`; an empty list if it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return [line for line in file.read().splitlines() if line.startswith(start)]
    except OSError:
        return []


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(sys.argv[1])))
