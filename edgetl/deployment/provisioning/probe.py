"""Reports what a device is. Its source is run on devices without edgetl, so it uses the standard library only."""

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
"""Vendor and product of the Coral USB Accelerator, before and after its first use (from Coral's udev rules)."""


def probe(folder: str) -> dict[str, object]:
    """The fields of `edgetl.deployment.provisioning.Machine`; `folder` is edgetl's folder, relative to the home."""
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
