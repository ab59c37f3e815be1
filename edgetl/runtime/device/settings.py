"""Hides where a device keeps what its owner has decided: what it is, and how its health is checked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Dict, Optional

from edgetl.durable import replace_file
from edgetl.errors import OptionError

FILE = "settings.json"
_KINDS = {type(None): (str, type(None)), str: (str,), int: (int,), float: (int, float)}
"""What a setting may be, by its default."""


@dataclass(frozen=True)
class Settings:
    """What the owner of a device has decided. Raises OptionError where a value is out of range."""

    target: Optional[str] = None
    """What the device is, as `edgetl targets` calls it; None takes it from the bundle that runs."""
    health_check: str = ""
    """A command that ends with 0 where the device does its work with the bundle in $EDGETL_BUNDLE; empty for none."""
    after_switch: str = ""
    """A command that is run when another bundle runs, forward or back, such as one that restarts a service."""
    command_seconds: float = 60.0
    """How long each of these commands, and a restart of the service, may take."""
    probation_seconds: float = 30.0
    """How long after a switch a failed health check goes back to the previous bundle."""
    slots: int = 3
    """How many bundles are kept, the one that runs and the previous one among them."""
    run_options: str = ""
    """What the service gives `edgetl run`; empty where there is no service."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, _KINDS[type(field.default)]):
                raise OptionError(f"the setting {field.name} is {value!r}, which is not of its kind")
        if not 0 < self.command_seconds <= 3600 or not 0 <= self.probation_seconds <= 86400:
            raise OptionError("a command may take up to 3600 seconds, and a probation up to 86400")
        if not 2 <= self.slots <= 100:
            raise OptionError(f"slots is {self.slots}; keep 2 to 100: the one that runs and the previous one at least")

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def read_settings(root: Path) -> Settings:
    """The settings of a device root. Raises OptionError where the file is not one."""
    path = root / FILE
    try:
        return Settings(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OptionError(f"{path} is not a file of settings: {error}; mend it or remove it") from error


def write_settings(root: Path, settings: Settings) -> None:
    """Stores the settings of a device root. Raises StorageError."""
    replace_file(root / FILE, json.dumps(settings.to_dict(), indent=1).encode() + b"\n")
