"""Boards as data: reads targets/*.toml into frozen values for the build, the compiler and the report.

The stem of the file is the target's name. A folder of the user's own (EDGETL_TARGETS, or
~/.config/edgetl/targets) is searched first, so a new board is one file and no code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from edgetl.errors import OptionError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Raspberry Pi OS Bullseye
    import tomli as tomllib


@dataclass(frozen=True)
class ReferenceLatency:
    """A latency that someone else measured on the board and published.

    `macs` is the multiply-accumulate count of the model that was measured; estimates for other
    models scale with it.
    """

    model: str
    macs: int
    quantize: str
    accelerator: str
    latency_ms: float
    source: str


@dataclass(frozen=True)
class LatencyEstimate:
    """A latency that nobody measured: scaled by multiply-accumulates from a published figure."""

    latency_ms: float
    reference: ReferenceLatency


@dataclass(frozen=True)
class Target:
    """One board: what runs the model there, what it accepts, and what it was seen to do.

    `channel_multiple` is what the widths of pruned layers are kept to, so that no lane of its kernels idles.
    """

    name: str
    title: str
    architecture: str
    interpreter: str
    threads: int
    memory_bytes: int
    edgetpu: bool = False
    quantize: tuple[str, ...] = ("int8",)
    channel_multiple: int = 8
    backbone: str = "efficientnet-lite0"
    max_latency_ms: Optional[float] = None
    max_size_bytes: Optional[int] = None
    min_edgetpu_runtime: Optional[int] = None
    source: str = ""
    reference_latencies: tuple[ReferenceLatency, ...] = field(default=())

    def estimate_latency(self, macs: int, quantize: str = "int8") -> Optional[LatencyEstimate]:
        """The latency of a model of `macs` multiply-accumulates, scaled from the nearest published figure.

        None where nothing comparable was published. The nearest reference is the one whose count is
        closest by ratio; latency is taken as proportional to the count, which is rough: memory traffic
        and depthwise layers make real models differ by half as much again.
        """
        accelerator = "edgetpu" if self.edgetpu and quantize == "int8" else "cpu"
        usable = [
            reference
            for reference in self.reference_latencies
            if reference.quantize == quantize and reference.accelerator == accelerator
        ]
        if not usable or macs <= 0:
            return None
        nearest = min(usable, key=lambda reference: max(macs / reference.macs, reference.macs / macs))
        return LatencyEstimate(nearest.latency_ms * macs / nearest.macs, nearest)


def load_target(name: str) -> Target:
    """The target called `name`.

    Raises:
        UnknownNameError: there is no such file.
        OptionError: the file has an unknown or missing key, or a value of the wrong kind.
    """
    found = _files()
    if name not in found:
        raise UnknownNameError("target", name, found, "edgetl targets")
    return _read(found[name])


def list_targets() -> list[Target]:
    """Every target there is, by name."""
    return [_read(path) for _, path in sorted(_files().items())]


def _folders() -> list[Path]:
    config = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    own = Path(os.environ.get("EDGETL_TARGETS", config / "edgetl" / "targets"))
    package = Path(__file__).resolve().parent
    return [own, package / "targets_data", package.parent / "targets"]


def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else []:
            found.setdefault(path.stem, path)
    return found


def _read(path: Path) -> Target:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"{path} is not a target file: {error}") from error
    references = content.pop("reference_latencies", [])
    if not isinstance(references, list):
        raise OptionError(f"{path}: reference_latencies must be a list of tables")
    return _construct(
        Target,
        {
            **content,
            "name": path.stem,
            "reference_latencies": tuple(_construct(ReferenceLatency, entry, path) for entry in references),
        },
        path,
    )


_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Optional[float]": (int, float),
    "Optional[int]": (int,),
    "tuple[str, ...]": (list, tuple),
    "tuple[ReferenceLatency, ...]": (tuple,),
}


def _construct(kind: type, content: Mapping[str, Any], path: Path) -> Any:
    """A dataclass from a TOML table; unknown keys, missing keys and wrong types are errors."""
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    for key, value in content.items():
        if key not in known:
            raise OptionError(f"{path}: unknown key '{key}'; known are {', '.join(sorted(known))}")
        allowed = _KINDS[known[key]]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise OptionError(f"{path}: '{key}' must be {known[key]}, received {value!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise OptionError(f"{path}: {str(error).split('() ')[-1]}") from error
