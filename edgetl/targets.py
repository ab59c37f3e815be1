"""Reads targets from targets/*.toml: one file per board, and the file stem is the target's name.

The user's own folder (EDGETL_TARGETS, or ~/.config/edgetl/targets) is searched first, so that a new board is one file
and no code. Latencies that `edgetl bench` measured are stored in ~/.config/edgetl/profiles.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional

from edgetl.durable import make_folder, replace_file
from edgetl.errors import OptionError, UnknownNameError
from edgetl.runtime.system import config_folder, data_folder
from edgetl.toml_file import read_toml
from edgetl.workload import PRICES, Workload


@dataclass(frozen=True)
class ReferenceLatency:
    """A latency that was measured on a board, published by someone else or measured by the user.

    Attributes:
        model: the name of the measured model.
        macs: its multiply-accumulates per run, including `depthwise_macs`; estimates for other models scale with them.
        depthwise_macs: those of depthwise convolutions.
        parameters: its number of parameters.
        quantize: its number format.
        accelerator: "cpu" or "edgetpu".
        latency_ms: milliseconds per run.
        source: where it was published, or on what it was measured.

    Raises:
        OptionError: a number is out of range.
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
                f"invalid latency: macs must be 1 or more and latency_ms above 0, received {self.macs} and "
                f"{self.latency_ms}"
            )
        if not 0 <= self.depthwise_macs <= self.macs or self.parameters < 0:
            raise OptionError(
                f"invalid latency: depthwise_macs must be 0 to macs and parameters 0 or more, received "
                f"{self.depthwise_macs} and {self.parameters}"
            )

    @property
    def workload(self) -> Workload:
        """The work of one run of the measured model."""
        return Workload(self.macs, self.depthwise_macs, self.parameters)


@dataclass(frozen=True)
class LatencyEstimate:
    """A latency that was scaled from those of other models by the work of a run.

    Attributes:
        latency_ms: milliseconds per run.
        error: the relative standard error of such estimates; 0 if a model with the same work was measured.
        references: the latencies it was scaled from.
        is_own: whether the user measured the references.
    """

    latency_ms: float
    error: float
    references: tuple[ReferenceLatency, ...]
    is_own: bool

    @property
    def interval_ms(self) -> tuple[float, float]:
        """The 95 % confidence interval in milliseconds."""
        factor = math.exp(1.96 * self.error)
        return self.latency_ms / factor, self.latency_ms * factor

    def explain(self) -> str:
        """How it was estimated, as a sentence without its full stop."""
        known = " and ".join(f"{entry.latency_ms:g} ms of {entry.model}" for entry in self.references)
        sources = ", ".join(dict.fromkeys(entry.source for entry in self.references))
        if not self.error:
            return f"{known}, which has the same work ({sources})"
        return (
            f"scaled from {known} ({sources}) by convolutions, depthwise convolutions and parameters; "
            f"such estimates differ from published figures by {self.error:.0%}"
        )


@dataclass(frozen=True)
class Target:
    """One board: its hardware and interpreter, the models that it accepts, and known latencies.

    Attributes:
        name: the stem of its file.
        title: its name for people.
        architecture: of its processor as uname reports it, or "any".
        interpreter: the package of its TFLite interpreter, or "any".
        threads: threads of the interpreter.
        memory_bytes: its memory.
        edgetpu: whether it has an Edge TPU.
        quantize: the number formats that it accepts.
        channel_multiple: pruning keeps layer widths at multiples of this, so that its kernels use all vector lanes.
        backbone: the default backbone.
        max_latency_ms: default limit of a build.
        max_size_bytes: default limit of a build.
        min_edgetpu_runtime: the version of its Edge TPU runtime.
        source: where these values were published.
        reference_latencies: published latencies.
        measured_latencies: latencies that `edgetl bench` measured on the user's own board; estimates prefer them.

    Raises:
        OptionError: a number is out of range.
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

    def __post_init__(self) -> None:
        for name in ("threads", "memory_bytes", "channel_multiple"):
            if getattr(self, name) < 1:
                raise OptionError(f"target {self.name}: {name} must be 1 or more, received {getattr(self, name)}")

    def accelerator(self, quantize: str) -> str:
        """The processor that runs a model of this number format: "edgetpu" or "cpu"."""
        return "edgetpu" if self.edgetpu and quantize == "int8" else "cpu"

    def estimate_latency(self, workload: Optional[Workload], quantize: str = "int8") -> Optional[LatencyEstimate]:
        """Estimate the latency of a model with this work from the known latencies of the board.

        Latencies of models with the same work are preferred to all others; several are averaged geometrically. The
        error is that of such estimates for published latencies (see `edgetl.workload`). None if the work is unknown,
        or no comparable latency is known.
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
        """The latencies for this number format: those that the user measured, else the published ones."""
        own = self._comparable(self.measured_latencies, quantize)
        return tuple(own or self._comparable(self.reference_latencies, quantize))

    def _comparable(self, references: Sequence[ReferenceLatency], quantize: str) -> list[ReferenceLatency]:
        accelerator = self.accelerator(quantize)
        return [entry for entry in references if (entry.quantize, entry.accelerator) == (quantize, accelerator)]


def load_target(name: str) -> Target:
    """The target with this name.

    >>> load_target("rpi4").title
    'Raspberry Pi 4'
    >>> load_target("rpi6")
    Traceback (most recent call last):
        ...
    edgetl.errors.UnknownNameError: unknown target 'rpi6' (did you mean 'rpi5'?); choose ...

    Raises:
        UnknownNameError: there is no such target.
        OptionError: its file has an unknown or missing key, or a value of the wrong type.
    """
    found = _files()
    if name not in found:
        raise UnknownNameError("target", name, found, "edgetl targets")
    return _read(found[name])


def list_targets() -> list[Target]:
    """All targets, sorted by name. Raises OptionError if a file is invalid."""
    return [_read(path) for _, path in sorted(_files().items())]


def store_profile(measured: Mapping[str, Any], target: Target) -> Path:
    """Store a measurement, the output of `edgetl bench --json`, for later builds to estimate from; return the file.

    A measurement of the same model is replaced.

    Raises:
        OptionError: it was measured on another architecture or accelerator than the target's, or is incomplete.
        StorageError: the file cannot be written.
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
        raise OptionError(f"invalid measurement: expected the output of edgetl bench --json ({error})") from error
    if target.architecture not in ("any", architecture):
        raise OptionError(
            f"{target.name} is {target.architecture}, but this was measured on {architecture}; run edgetl bench --json "
            f"on the board, and then here: edgetl bench --import FILE --target {target.name}"
        )
    if 0 in (values["macs"], values["parameters"]):
        raise OptionError("the bundle does not contain the work of its backbone; build it again")
    latency: ReferenceLatency = _construct(ReferenceLatency, values, "the measurement")
    accelerator = target.accelerator(latency.quantize)
    if latency.accelerator != accelerator:
        raise OptionError(
            f"{target.name} runs {latency.quantize} on {accelerator}, but this was measured on {latency.accelerator}"
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
    content = read_toml(path, "a valid target file")
    references = content.pop("reference_latencies", [])
    if not isinstance(references, list):
        raise OptionError(f"{path}: reference_latencies must be tables, [[reference_latencies]]")
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
        raise OptionError(f"{path} is not a valid profile; remove it and run edgetl bench again ({error})") from error


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
    """Make a dataclass from a table of the file `path`. Raises OptionError for wrong keys or types."""
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    for key, value in content.items():
        if key not in known:
            raise OptionError(f"{path}: unknown key '{key}'; choose {', '.join(sorted(known))}")
        allowed = _KINDS[known[key]]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise OptionError(f"{path}: '{key}' must be {known[key]}, received {value!r}")
    needed = (entry.name for entry in fields(kind) if entry.default is MISSING)
    if missing := [key for key in needed if key not in content]:
        raise OptionError(f"{path}: missing {', '.join(missing)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
