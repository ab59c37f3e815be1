"""Parses the JSON answers of a device into dataclasses."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from edgetl.deployment.transport import PREPARE, excerpt
from edgetl.errors import DeviceError, EdgetlError
from edgetl.learners import Adaptation
from edgetl.runtime.device import Settings
from edgetl.runtime.learning import Effect

_LARGEST_NUMBER = 1 << 63
"""No size, time or count of a device is larger."""
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class HeldBundle:
    """A bundle in a slot of a device. A damaged one has a `fault`, and only its digest is known."""

    digest: str
    taught: bool
    """Whether pictures were taught to it."""
    name: str = ""
    target: str = ""
    backbone: Optional[str] = None
    labels: tuple[str, ...] = ()
    signed: bool = False
    entries: dict[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 by the name of the entry."""
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The object that the device printed."""
        if self.fault:
            return {"digest": self.digest, "taught": self.taught, "fault": self.fault}
        return {name: value for name, value in asdict(self).items() if name != "fault"}


@dataclass(frozen=True)
class ServiceStatus:
    """The systemd service of a device. Without an answer of its service manager, `fault` says why."""

    state: str
    """"active", "activating", "failed", "inactive" or another state of systemd, or "unknown"."""
    name: str = ""
    restarts: int = 0
    """Automatic restarts since it was last started on purpose."""
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The object that the device printed."""
        if self.fault:
            return {"state": self.state, "fault": self.fault}
        return {"name": self.name, "state": self.state, "restarts": self.restarts}


@dataclass(frozen=True)
class DeviceMachine:
    """The hardware and the software of a device."""

    edgetl: str
    python: str
    architecture: str
    board: Optional[str]
    interpreter: Optional[str]
    """Name and version of the TFLite interpreter; None without one."""
    free_bytes: int


@dataclass(frozen=True)
class DeviceInventory:
    """What a device runs, stores and is."""

    root: str
    running: Optional[HeldBundle]
    bundle: str
    """Path of the running bundle; it stays the same across updates."""
    previous: Optional[str]
    """Digest of the bundle that a rollback returns to."""
    probation_seconds_left: float
    slots: tuple[HeldBundle, ...]
    trusted_keys: tuple[str, ...]
    settings: Settings
    service: Optional[ServiceStatus]
    machine: DeviceMachine

    @property
    def board(self) -> str:
        """The board, or the processor architecture if the firmware does not name it."""
        return self.machine.board or self.machine.architecture

    @property
    def target(self) -> str:
        """The target that the device was configured to be, else that of the running bundle, else empty."""
        return self.settings.target or (self.running.target if self.running else "")

    def to_dict(self) -> dict[str, Any]:
        """The object that the device printed."""
        return {
            **asdict(self),
            "running": self.running and self.running.to_dict(),
            "slots": [bundle.to_dict() for bundle in self.slots],
            "service": self.service and self.service.to_dict(),
        }


@dataclass(frozen=True)
class InstalledService:
    """A service that runs the bundle of a device."""

    where: str
    name: str
    state: str
    restarts: int
    run_options: str
    """The options that it passes to `edgetl run`."""
    starts_at_boot: bool
    """False if it ends with the user's last login."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class RemovedService:
    """The service of a device after its removal."""

    where: str
    name: str
    removed: bool
    """False if there was none."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class TaughtStep:
    """A learning step on a device. `id` is 0 if nothing was recorded."""

    where: str
    id: int
    kind: str
    label: Optional[str]
    pictures: tuple[int, ...]
    subject: Optional[int]
    accepted: bool
    """False if the guard refused it; the pictures then wait."""
    effect: Optional[Effect]
    not_carried: int
    adaptation: Optional[Adaptation]
    labels: tuple[str, ...]
    """The classes afterwards."""
    state: str
    """The state folder on the device."""
    unreadable: tuple[str, ...]
    """One line for each picture that could not be read."""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return {**asdict(self), "effect": self.effect and self.effect.to_dict()}


@dataclass(frozen=True)
class LogLines:
    """The latest lines of a service's log, the oldest first."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class TrustedKeys:
    """The identifiers of the keys that a device trusts."""

    trusted_keys: tuple[str, ...]


def parse(kind: type[_Parsed], answer: Mapping[str, Any], where: str) -> _Parsed:
    """Make a dataclass of a device's JSON object. Unknown keys, which a newer device may send, are ignored.

    Raises:
        DeviceError: a key is missing, or a value has the wrong type; names the device and quotes its answer.
    """
    try:
        parsed: _Parsed = _convert(kind, answer, "")
        return parsed
    except _MismatchError as error:
        raise DeviceError(
            f"{where} gave an unexpected answer ({error}): {excerpt(json.dumps(answer))}; "
            f"update edgetl there: {PREPARE}"
        ) from None


class _MismatchError(Exception):
    """A value is not of the type that was expected."""


def _convert(kind: Any, value: Any, path: str) -> Any:
    """The value as `kind`: a dataclass, a named tuple, Optional, tuple, dict, or a scalar."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Union:  # Optional
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _convert(inner, value, path)
    if origin in (tuple, list):
        items = _require(value, (list,), path)
        return origin(_convert(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        table = _require(value, (dict,), path)
        return {key: _convert(arguments[1], item, _join(path, key)) for key, item in table.items()}
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        return _construct(kind, _require(value, (dict,), path), path)
    return _require(value, (int, float) if kind is float else (kind,), path)


def _construct(kind: Any, table: Mapping[str, Any], path: str) -> Any:
    hints = get_type_hints(kind)
    required = {name for name in hints if name not in _defaults(kind)}
    for name in sorted(required - table.keys()):
        raise _MismatchError(f"{_join(path, name)} is missing")
    known = {name: _convert(hints[name], table[name], _join(path, name)) for name in hints if name in table}
    try:
        return kind(**known)
    except (EdgetlError, ValueError, TypeError) as error:
        raise _MismatchError(str(error)) from None


def _defaults(kind: Any) -> set[str]:
    """The names of the fields that may be missing."""
    if not dataclasses.is_dataclass(kind):
        return set(typing.cast("Any", kind)._field_defaults)
    return {
        field.name for field in dataclasses.fields(kind) if (field.default, field.default_factory) != (MISSING, MISSING)
    }


def _require(value: Any, kinds: tuple[type, ...], path: str) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise _MismatchError(f"{path or 'the answer'} is {type(value).__name__}, expected {expected}")
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST_NUMBER:
        raise _MismatchError(f"{path} is out of range")
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
