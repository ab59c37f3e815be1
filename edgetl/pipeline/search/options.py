"""What a search may be told: where it looks, how much a model may take, and how long it may last."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from edgetl.errors import OptionError
from edgetl.evaluation import wording
from edgetl.pipeline.options import BuildOptions
from edgetl.targets import LatencyEstimate, Target


@dataclass(frozen=True)
class Budget:
    """The most that a model may take on the board; None where nothing is asked."""

    latency_ms: Optional[float] = None
    size_bytes: Optional[int] = None
    ram_bytes: Optional[int] = None

    def __post_init__(self) -> None:
        for name in ("latency_ms", "size_bytes", "ram_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionError(f"max_{name} must be above 0, received {value}")

    def or_of(self, board: Target) -> Budget:
        """With the board's own limits where nothing was asked."""
        return replace(
            self,
            latency_ms=board.max_latency_ms if self.latency_ms is None else self.latency_ms,
            size_bytes=board.max_size_bytes if self.size_bytes is None else self.size_bytes,
        )

    def excess(self, latency: Optional[LatencyEstimate], size_bytes: int, ram_bytes: int) -> str:
        """What of it is exceeded, in words; empty where nothing is. An unknown latency exceeds nothing."""
        if self.latency_ms is not None and latency is not None and latency.latency_ms > self.latency_ms:
            return f"about {wording.milliseconds(latency.latency_ms)}, over {wording.milliseconds(self.latency_ms)}"
        if self.size_bytes is not None and size_bytes > self.size_bytes:
            return f"{wording.size(size_bytes)}, over {wording.size(self.size_bytes)}"
        if self.ram_bytes is not None and ram_bytes > self.ram_bytes:
            return f"about {wording.size(ram_bytes)} of RAM, over {wording.size(self.ram_bytes)}"
        return ""


@dataclass(frozen=True)
class SearchOptions:
    """Where a search looks and for how long.

    `backbones` are names or Keras files, all known ones for (); each is tried at its own input size and at those of
    `input_sizes` below; `epochs` are the lengths of fine-tuning, growing, that ever fewer candidates get; `prune`
    the shares of multiply-accumulates that are taken from the best at last. `weights` is a folder of weights files,
    beside the places where they are looked for anyway. `time_s` is for the trials, those of an interrupted run of
    the same search counted in. `ray` is the address of a Ray cluster to run them on, None for this process; of n
    trials at once each has that time. `build` holds what all trials and the final build have in common; its backbone,
    input size, weights, fine_tune and pruning are the search's to choose.
    """

    budget: Budget = field(default_factory=Budget)
    time_s: float = 1200.0
    backbones: tuple[str, ...] = ()
    input_sizes: tuple[int, ...] = (96, 128, 160, 192, 224)
    epochs: tuple[int, ...] = (3, 10)
    prune: tuple[float, ...] = (0.5,)
    weights: Optional[Path] = None
    ray: Optional[str] = None
    build: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if not self.time_s > 0:
            raise OptionError(f"time must be above 0, received {self.time_s:g} s; give such as 20m")
        if list(self.epochs) != sorted(set(self.epochs)) or any(epochs < 1 for epochs in self.epochs):
            raise OptionError(f"epochs must grow from 1 or more, received {', '.join(map(str, self.epochs))}")
        for share in self.prune:
            if not 0 < share < 1:
                raise OptionError(f"prune is {share}; choose more than 0 and less than 1, such as 0.5")
        if self.weights is not None and not self.weights.is_dir():
            raise OptionError(f"the weights folder {self.weights} does not exist; name a folder of weights files")
        if self.build.conversion.quantize != "int8":
            raise OptionError(f"a search is for int8, received {self.build.conversion.quantize}; build with the pick")
