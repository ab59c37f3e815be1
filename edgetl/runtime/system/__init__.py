"""The machine under edgetl: hardware facts, the user's folders, systemd's heartbeat, native standard error."""

from __future__ import annotations

from edgetl.runtime.system.folders import DATA_FOLDERS, cache_folder, config_folder, data_folder
from edgetl.runtime.system.heartbeat import notify_alive, notify_ready
from edgetl.runtime.system.machine import (
    architecture,
    board_name,
    cores,
    describe_machine,
    temperature,
    throttling,
)
from edgetl.runtime.system.memory import available_memory
from edgetl.runtime.system.native_stderr import native_stderr_silenced
from edgetl.runtime.system.packages import Package, list_packages
from edgetl.runtime.system.standard_streams import open_standard_streams

__all__ = [
    "DATA_FOLDERS",
    "Package",
    "architecture",
    "available_memory",
    "board_name",
    "cache_folder",
    "config_folder",
    "cores",
    "data_folder",
    "describe_machine",
    "list_packages",
    "native_stderr_silenced",
    "notify_alive",
    "notify_ready",
    "open_standard_streams",
    "temperature",
    "throttling",
]
