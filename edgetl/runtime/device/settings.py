"""Reads and writes the settings of a device, for example its target, its health check and what it trusts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Dict, Optional

from edgetl.durable import replace_file
from edgetl.errors import OptionError

FILE = "settings.json"
COMMAND_LIMIT_SECONDS = 3600
PROBATION_LIMIT_SECONDS = 86400
SLOTS_LIMIT = 100
_TYPES = {type(None): (str, type(None)), str: (str,), int: (int,), float: (int, float), bool: (bool,)}
_KINDS = {type(None): "text", str: "text", bool: "true or false"}
"""The types that a setting accepts, by the type of its default."""


@dataclass(frozen=True)
class Settings:
    """The settings of one device. Raises OptionError if a value has the wrong type or is out of range."""

    target: Optional[str] = None
    """The device's target, a name of `edgetl targets`; None accepts the target of the running bundle."""
    health_check: str = ""
    """A command that exits with 0 if the bundle in $EDGETL_BUNDLE works; empty for none."""
    after_switch: str = ""
    """A command that runs after every switch, forward or back, for example to restart a service; empty for none."""
    command_seconds: float = 60.0
    """Time limit of each of these commands, and of a restart of the service."""
    probation_seconds: float = 30.0
    """For how long after a switch a failed health check returns to the previous bundle."""
    slots: int = 3
    """How many bundles are kept, including the running and the previous one."""
    run_options: str = ""
    """The options that the service passes to `edgetl run`; empty if there is no service."""
    require_signatures: bool = False
    """Whether only bundles signed by a trusted key run. The first trusted key sets it; removing keys does not clear it.
    A device that trusts keys requires signatures in any case."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = type(field.default)
            if (isinstance(value, bool) and kind is not bool) or not isinstance(value, _TYPES[kind]):
                expected = _KINDS.get(kind, "a number")
                raise OptionError(f"invalid setting {field.name}: expected {expected}, received {value!r}")
        if not 0 < self.command_seconds <= COMMAND_LIMIT_SECONDS:
            raise OptionError(
                f"invalid setting command_seconds: expected more than 0 and at most {COMMAND_LIMIT_SECONDS}, "
                f"received {self.command_seconds:g}"
            )
        if not 0 <= self.probation_seconds <= PROBATION_LIMIT_SECONDS:
            raise OptionError(
                f"invalid setting probation_seconds: expected 0 to {PROBATION_LIMIT_SECONDS}, "
                f"received {self.probation_seconds:g}"
            )
        if not 2 <= self.slots <= SLOTS_LIMIT:
            raise OptionError(
                f"invalid setting slots: expected 2 to {SLOTS_LIMIT} (the running and the previous bundle at least), "
                f"received {self.slots}"
            )

    def to_dict(self) -> Dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)


def read_settings(root: Path) -> Settings:
    """The settings of a device root; the defaults if it has none. Raises OptionError if the file is invalid."""
    path = root / FILE
    try:
        return Settings(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OptionError(f"cannot read the settings in {path}: {error}; correct the file or remove it") from error


def write_settings(root: Path, settings: Settings) -> None:
    """Stores the settings of a device root. Raises StorageError."""
    replace_file(root / FILE, json.dumps(settings.to_dict(), indent=1).encode() + b"\n")
