"""What a model may take on the board; a search looks for one that keeps to it, a build refuses one that does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

from edgetl.conversion import Artifact
from edgetl.conversion.backbone_source import Origin
from edgetl.conversion.memory_estimate import estimate_ram
from edgetl.errors import OptionError
from edgetl.evaluation.renderers import wording
from edgetl.targets import LatencyEstimate, Target


class Excess(NamedTuple):
    """By how much a model is over its budget: so many `times` where it is furthest from it, and how, in words."""

    times: float
    text: str


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

    def excess(self, latency: Optional[LatencyEstimate], size_bytes: int, ram_bytes: int) -> Optional[Excess]:
        """What of it is exceeded most; None where nothing is. An unknown latency exceeds nothing."""
        over: list[Excess] = []
        if latency is not None and self.latency_ms is not None:
            told, limit = (wording.milliseconds(value) for value in (latency.latency_ms, self.latency_ms))
            over.append(Excess(latency.latency_ms / self.latency_ms, f"about {told}, over {limit}"))
        if self.size_bytes is not None:
            told, limit = (wording.size(value) for value in (size_bytes, self.size_bytes))
            over.append(Excess(size_bytes / self.size_bytes, f"{told}, over {limit}"))
        if self.ram_bytes is not None:
            told, limit = (wording.size(value) for value in (ram_bytes, self.ram_bytes))
            over.append(Excess(ram_bytes / self.ram_bytes, f"about {told} of RAM, over {limit}"))
        return max((excess for excess in over if excess.times > 1), default=None)


def require_known_latency(budget: Optional[Budget], board: Target, quantize: str) -> None:
    """Raises OptionError where the budget has a latency, and none of this number format is known of the board."""
    if budget is not None and budget.latency_ms is not None and not board.known_latencies(quantize):
        raise OptionError(
            f"no latency of {quantize} is known of {board.name}; measure one with edgetl bench, or leave the limit out"
        )


def require_within(budget: Optional[Budget], origin: Origin, artifact: Artifact, board: Target) -> None:
    """Raises OptionError where the compiled backbone exceeds the budget, or its latency on the board is unknown."""
    if budget is None:
        return
    budget = budget.or_of(board)
    require_known_latency(budget, board, artifact.quantize)
    latency = board.estimate_latency(origin.workload, artifact.quantize)
    name = f"{origin.name} at {origin.preprocess.width}"
    if budget.latency_ms is not None and latency is None:
        raise OptionError(f"{name} does not say what work it takes, so no latency is known of it; leave the limit out")
    if excess := budget.excess(latency, len(artifact.model), estimate_ram(artifact.model)):
        raise OptionError(f"{name} takes {excess.text}; raise the limit, or leave more of the model to choose")
