"""Manages a device: slots, installs and rollbacks, health checks, the service, settings, inventory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.runtime.device.current_bundle import StepResult, TeachingResult, complete_step, teach_pictures
    from edgetl.runtime.device.health import check_running
    from edgetl.runtime.device.installation import Installed, RolledBack, install, rollback
    from edgetl.runtime.device.inventory import Inventory, take_inventory
    from edgetl.runtime.device.settings import Settings
    from edgetl.runtime.device.slots import INCOMING, Slots
    from edgetl.runtime.device.snapshot import Snapshot

__all__ = [
    "INCOMING",
    "Installed",
    "Inventory",
    "RolledBack",
    "Settings",
    "Slots",
    "Snapshot",
    "StepResult",
    "TeachingResult",
    "check_running",
    "complete_step",
    "install",
    "rollback",
    "take_inventory",
    "teach_pictures",
]

_HOMES = {
    "INCOMING": "slots",
    "Installed": "installation",
    "Inventory": "inventory",
    "RolledBack": "installation",
    "Settings": "settings",
    "Slots": "slots",
    "Snapshot": "snapshot",
    "StepResult": "current_bundle",
    "TeachingResult": "current_bundle",
    "check_running": "health",
    "complete_step": "current_bundle",
    "install": "installation",
    "rollback": "installation",
    "take_inventory": "inventory",
    "teach_pictures": "current_bundle",
}
"""The module of each name. Modules are imported on first use, so that a device loads only what it runs."""

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
