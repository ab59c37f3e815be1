"""Runs on a device that has no edgetl yet, sent there as text: tells what the device is, by its Python alone."""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import json
import os
import platform
import shutil
import sys

EDGETPU_LIBRARY = "libedgetpu.so.1"
EDGETPU_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}
"""Vendor and product of Coral's USB Accelerator, before its first use and after (Coral's udev rules)."""


def look(folder: str) -> dict[str, object]:
    """What `edgetl.deployment.provisioning.environment.Machine` holds; `folder` is edgetl's in the user's home."""
    link = os.path.join(folder, "python")
    return {
        "python": sys.version_info[:2],
        "architecture": platform.machine(),
        "glibc": platform.libc_ver()[1],
        "system": _system(),
        "board": _board(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free_bytes": shutil.disk_usage(".").free,
        "packages": [name for name in ("numpy", "PIL") if importlib.util.find_spec(name)],
        "environment": os.path.basename(os.readlink(link)) if os.path.islink(link) and os.path.exists(link) else None,
        "edgetpus": _edgetpus(),
        "edgetpu_runtime": _edgetpu_runtime(),
    }


def _system() -> object:
    """Its name for people, as os-release(5) has it."""
    return next((line.partition("=")[2].strip('"') for line in _lines("/etc/os-release", "PRETTY_NAME=")), None)


def _board() -> object:
    return next((line.rstrip("\0") for line in _lines("/proc/device-tree/model")), None)


def _edgetpus() -> int:
    """How many are plugged in: on the bus of a board, or by USB."""
    ids = [
        tuple("".join(_lines(os.path.join(device, name))) for name in ("idVendor", "idProduct"))
        for device in glob.glob("/sys/bus/usb/devices/*")
    ]
    return len(glob.glob("/dev/apex_*")) + sum(pair in EDGETPU_USB_IDS for pair in ids)


def _edgetpu_runtime() -> object:
    """What the library says of itself; None where there is none."""
    try:
        version = ctypes.CDLL(EDGETPU_LIBRARY).edgetpu_version
    except (OSError, AttributeError):
        return None
    version.restype = ctypes.c_char_p
    return (version() or b"").decode(errors="replace")


def _lines(path: str, start: str = "") -> list[str]:
    """The lines of a file that begin so; none where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return [line for line in file.read().splitlines() if line.startswith(start)]
    except OSError:
        return []


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(sys.argv[1])))
