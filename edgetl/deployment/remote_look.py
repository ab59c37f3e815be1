"""Runs on a device that has no edgetl yet, sent there as text: tells what the device is, by its Python alone."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys


def look(folder: str) -> dict[str, object]:
    """What `edgetl.deployment.environment.Machine` holds; `folder` is edgetl's in the user's home."""
    link = os.path.join(folder, "python")
    return {
        "python": sys.version_info[:2],
        "architecture": platform.machine(),
        "glibc": platform.libc_ver()[1],
        "board": _board(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free_bytes": shutil.disk_usage(".").free,
        "packages": [name for name in ("numpy", "PIL") if importlib.util.find_spec(name)],
        "environment": os.path.basename(os.readlink(link)) if os.path.islink(link) and os.path.exists(link) else None,
    }


def _board() -> object:
    try:
        with open("/proc/device-tree/model") as file:
            return file.read().rstrip("\0\n")
    except OSError:
        return None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(sys.argv[1])))
