"""Describes this machine: board, cores, architecture, temperature, throttling."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Optional, Tuple, Union

THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage since boot",
    17: "frequency capped since boot",
    18: "throttled since boot",
    19: "soft temperature limit since boot",
}
"""The bits of a Raspberry Pi's get_throttled (Raspberry Pi documentation, vcgencmd)."""


def describe_machine() -> str:
    """The board or processor, and its cores: "Raspberry Pi 4 Model B Rev 1.4, 4 cores"."""
    count = cores()
    return f"{board_name() or _processor()}, {count} core{'s' if count != 1 else ''}"


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def board_name() -> Optional[str]:
    """The board's name in the device tree: "Raspberry Pi 4 Model B Rev 1.4". None without a device tree."""
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def architecture() -> str:
    """The architecture of this process: "aarch64", "x86_64"; 32-bit Python on a 64-bit ARM kernel is "armv7l"."""
    machine = platform.machine()
    return "armv7l" if machine == "aarch64" and sys.maxsize < 2**32 else machine


def temperature(root: Union[str, os.PathLike[str]] = "/") -> Optional[float]:
    """The temperature of the hottest sensor in degrees Celsius; None without sensors."""
    readings = []
    for path in Path(root, "sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            readings.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):  # the sensor is switched off
            continue
    return max(readings, default=None)


def throttling(root: Union[str, os.PathLike[str]] = "/") -> Optional[Tuple[str, ...]]:
    """What limits a Raspberry Pi now, or has limited it since it booted (see THROTTLING); None on other machines."""
    try:
        state = Path(root, "sys/devices/platform/soc/soc:firmware/get_throttled").read_text()
    except OSError:
        state = _vcgencmd()
    try:
        bits = int(state.strip().rpartition("=")[2], 16)
    except ValueError:
        return None
    return tuple(name for bit, name in THROTTLING.items() if bits >> bit & 1)


def _vcgencmd() -> str:
    """ "throttled=0x50000", or empty without that command."""
    import subprocess  # the Classifier imports this module, and need not wait for what only this function uses

    try:
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
