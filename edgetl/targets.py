"""Boards as data: reads targets/*.toml into frozen values for the build, the compiler and the report.

The stem of the file is the target's name. A folder of the user's own (EDGETL_TARGETS, or
~/.config/edgetl/targets) is searched first, so a new board is one file and no code. What `edgetl bench` measured
on a board lies beside it, in ~/.config/edgetl/profiles.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional

from edgetl.durable import make_folder, replace_file
from edgetl.errors import OptionError, UnknownNameError
from edgetl.runtime.system import config_folder, data_folder
from edgetl.workload import PRICES, Workload

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Raspberry Pi OS Bullseye
    import tomli as tomllib


@dataclass(frozen=True)
class ReferenceLatency:
    """A latency that was measured on the board: by someone else who published it, or by the user.

    `macs`, `depthwise_macs` among them, and `parameters` are those of the model that was measured; estimates for
    other models scale with the work.
    """

    model: str
    macs: int
    depthwise_macs: int
    parameters: int
    quantize: str
    accelerator: str
    latency_ms: float
    source: str

    def __post_init__(self) -> None:
        if self.macs < 1 or not (math.isfinite(self.latency_ms) and self.latency_ms > 0):
            raise OptionError(
                f"a latency needs macs of 1 or more and latency_ms above 0, received {self.macs} and {self.latency_ms}"
            )
        if not 0 <= self.depthwise_macs <= self.macs or self.parameters < 0:
            raise OptionError(
                f"a latency needs depthwise_macs of 0 to macs and parameters of 0 or more, received "
                f"{self.depthwise_macs} and {self.parameters}"
            )

    @property
    def workload(self) -> Workload:
        """What a run of the measured model takes."""
        return Workload(self.macs, self.depthwise_macs, self.parameters)


@dataclass(frozen=True)
class LatencyEstimate:
    """A latency scaled from those of other models by the work of a run.

    `error` is the standard error of such estimates as a share, 0 where a model of the very same work was measured;
    `is_own` says whether the user measured the references, rather than someone who published them.
    """

    latency_ms: float
    error: float
    references: tuple[ReferenceLatency, ...]
    is_own: bool

    @property
    def interval_ms(self) -> tuple[float, float]:
        """What it may really be, at 95 percent."""
        factor = math.exp(1.96 * self.error)
        return self.latency_ms / factor, self.latency_ms * factor

    def explain(self) -> str:
        """How it came about, as a sentence without its full stop."""
        known = " and ".join(f"{entry.latency_ms:g} ms of {entry.model}" for entry in self.references)
        sources = ", ".join(dict.fromkeys(entry.source for entry in self.references))
        if not self.error:
            return f"{known}, which takes the same work ({sources})"
        return (
            f"scaled from {known} ({sources}) by convolutions, depthwise convolutions and parameters, "
            f"which misses published figures by {self.error:.0%}"
        )


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
    measured_latencies: tuple[ReferenceLatency, ...] = field(default=())
    """What `edgetl bench` measured on the user's own board; estimates prefer them."""

    def __post_init__(self) -> None:
        for name in ("threads", "memory_bytes", "channel_multiple"):
            if getattr(self, name) < 1:
                raise OptionError(f"target {self.name}: {name} must be 1 or more, received {getattr(self, name)}")

    def accelerator(self, quantize: str) -> str:
        """What runs a model of this number format: "edgetpu" or "cpu"."""
        return "edgetpu" if self.edgetpu and quantize == "int8" else "cpu"

    def estimate_latency(self, workload: Optional[Workload], quantize: str = "int8") -> Optional[LatencyEstimate]:
        """The latency of a model that takes this work, scaled from all comparable figures of the board.

        None where the work is unknown, or nothing comparable was measured or published. A figure of a model that
        takes the very same work stands alone, others are averaged (geometrically); the interval is what such
        estimates missed published latencies by (see `edgetl.workload`).
        """
        known = self.known_latencies(quantize)
        if not known or workload is None:
            return None
        accelerator = self.accelerator(quantize)
        same = tuple(entry for entry in known if entry.workload == workload)
        references = same or known
        logs = [math.log(entry.latency_ms / entry.workload.cost(accelerator)) for entry in references]
        latency_ms = workload.cost(accelerator) * math.exp(sum(logs) / len(logs))
        error = 0.0 if same else PRICES[accelerator].error
        return LatencyEstimate(latency_ms, error, references, references[0] in self.measured_latencies)

    def known_latencies(self, quantize: str = "int8") -> tuple[ReferenceLatency, ...]:
        """What is known of models of this number format: the user's own figures, or else those that were published."""
        own = self._comparable(self.measured_latencies, quantize)
        return tuple(own or self._comparable(self.reference_latencies, quantize))

    def _comparable(self, references: Sequence[ReferenceLatency], quantize: str) -> list[ReferenceLatency]:
        accelerator = self.accelerator(quantize)
        return [entry for entry in references if (entry.quantize, entry.accelerator) == (quantize, accelerator)]


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


def store_profile(measured: Mapping[str, Any], target: Target) -> Path:
    """Keeps what `edgetl bench --json` says of a board, for later builds to estimate from; returns the file.

    A figure of the same model is replaced. Raises OptionError where it was measured on another architecture, or
    not on what runs such a model there, or lacks what an estimate needs; StorageError where the disk refuses.
    """
    latency = _measured_latency(measured, target)
    others = [
        entry
        for entry in target.measured_latencies
        if (entry.model, entry.workload, entry.quantize) != (latency.model, latency.workload, latency.quantize)
    ]
    path = _profile_path(target.name)
    make_folder(path.parent)
    replace_file(path, json.dumps([asdict(entry) for entry in (*others, latency)], indent=1).encode() + b"\n")
    return path


def _measured_latency(measured: Mapping[str, Any], target: Target) -> ReferenceLatency:
    try:
        architecture = measured["architecture"]
        setting = f"{measured['threads']} threads, {measured['interpreter']}"
        work = ("macs", "depthwise_macs", "parameters")
        values = {key: measured[key] for key in ("model", *work, "quantize", "accelerator")}
        values["latency_ms"] = measured["frame_ms"]["p50"]
        values["source"] = f"measured on {measured['machine']}, {setting}"
    except (KeyError, TypeError) as error:
        raise OptionError(f"this is not what edgetl bench --json prints: {error}") from error
    if target.architecture not in ("any", architecture):
        raise OptionError(
            f"{target.name} is {target.architecture}, this was measured on {architecture}; run edgetl bench --json on "
            f"the board, and then here: edgetl bench --import FILE --target {target.name}"
        )
    if 0 in (values["macs"], values["parameters"]):
        raise OptionError("the bundle does not say what work its backbone takes; build it anew")
    latency: ReferenceLatency = _construct(ReferenceLatency, values, "the measurement")
    accelerator = target.accelerator(latency.quantize)
    if latency.accelerator != accelerator:
        raise OptionError(
            f"{target.name} runs {latency.quantize} on {accelerator}, this was measured on {latency.accelerator}"
        )
    return latency


def _profile_path(name: str) -> Path:
    return config_folder() / "profiles" / f"{name}.json"


def _folders() -> list[Path]:
    own = Path(os.environ.get("EDGETL_TARGETS", config_folder() / "targets"))
    return [own, data_folder("targets_data")]


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
    published: Target = _construct(
        Target,
        {
            **content,
            "name": path.stem,
            "reference_latencies": tuple(_construct(ReferenceLatency, entry, path) for entry in references),
        },
        path,
    )
    return replace(published, measured_latencies=_read_profile(_profile_path(path.stem)))


def _read_profile(path: Path) -> tuple[ReferenceLatency, ...]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_construct(ReferenceLatency, entry, path) for entry in entries)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OptionError(f"{path} is not a profile that edgetl bench stored; remove it ({error})") from error


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


def _construct(kind: type, content: Mapping[str, Any], path: object) -> Any:
    """A dataclass from a table that `path` held; unknown keys, missing keys and wrong types are errors."""
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    for key, value in content.items():
        if key not in known:
            raise OptionError(f"{path}: unknown key '{key}'; known are {', '.join(sorted(known))}")
        allowed = _KINDS[known[key]]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise OptionError(f"{path}: '{key}' must be {known[key]}, received {value!r}")
    needed = (entry.name for entry in fields(kind) if entry.default is MISSING)
    if missing := [key for key in needed if key not in content]:
        raise OptionError(f"{path}: missing {', '.join(missing)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
