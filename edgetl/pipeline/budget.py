"""Limits for a model on the board: latency, size and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

from edgetl.conversion import Artifact, BackboneSource, estimate_ram
from edgetl.errors import OptionError
from edgetl.evaluation import wording
from edgetl.targets import LatencyEstimate, Target


class Excess(NamedTuple):
    """How far a model exceeds its budget: the ratio to the limit that it exceeds most, and a description."""

    times: float
    text: str


@dataclass(frozen=True)
class Budget:
    """Limits for a model on the board; None for no limit.

    `latency_ms` is for one run of the compiled model, `size_bytes` for its file, and `ram_bytes` for the estimated
    memory of a run.
    """

    latency_ms: Optional[float] = None
    size_bytes: Optional[int] = None
    ram_bytes: Optional[int] = None

    def __post_init__(self) -> None:
        for name in ("latency_ms", "size_bytes", "ram_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionError(f"max_{name} must be greater than 0, received {value}")

    def with_defaults_of(self, board: Target) -> Budget:
        """This budget with the board's own limits where it has none."""
        return replace(
            self,
            latency_ms=board.max_latency_ms if self.latency_ms is None else self.latency_ms,
            size_bytes=board.max_size_bytes if self.size_bytes is None else self.size_bytes,
        )

    def excess(self, latency: Optional[LatencyEstimate], size_bytes: int, ram_bytes: int) -> Optional[Excess]:
        """The limit that is exceeded most; None if all are met. An unknown latency exceeds nothing."""
        over: list[Excess] = []
        if latency is not None and self.latency_ms is not None:
            value, limit = (wording.milliseconds(figure) for figure in (latency.latency_ms, self.latency_ms))
            over.append(Excess(latency.latency_ms / self.latency_ms, f"about {value}, over {limit}"))
        if self.size_bytes is not None:
            value, limit = (wording.size(figure) for figure in (size_bytes, self.size_bytes))
            over.append(Excess(size_bytes / self.size_bytes, f"{value}, over {limit}"))
        if self.ram_bytes is not None:
            value, limit = (wording.size(figure) for figure in (ram_bytes, self.ram_bytes))
            over.append(Excess(ram_bytes / self.ram_bytes, f"about {value} of RAM, over {limit}"))
        return max((excess for excess in over if excess.times > 1), default=None)


def require_known_latency(budget: Optional[Budget], board: Target, quantize: str) -> None:
    """Raise OptionError if the budget limits latency, and none is known for this number format on the board."""
    if budget is not None and budget.latency_ms is not None and not board.known_latencies(quantize):
        raise OptionError(
            f"no {quantize} latency is known for {board.name}; measure one with edgetl bench, or leave the limit out"
        )


def require_within(budget: Optional[Budget], backbone: BackboneSource, artifact: Artifact, board: Target) -> None:
    """Raise OptionError if the compiled backbone exceeds the budget, or its latency on the board is not known."""
    if budget is None:
        return
    budget = budget.with_defaults_of(board)
    require_known_latency(budget, board, artifact.quantize)
    latency = board.estimate_latency(backbone.workload, artifact.quantize)
    name = f"{backbone.name} at {backbone.preprocess.width}"
    if budget.latency_ms is not None and latency is None:
        raise OptionError(
            f"the workload of {name} is not known, so its latency cannot be estimated; leave the limit out"
        )
    if excess := budget.excess(latency, len(artifact.model), estimate_ram(artifact.model)):
        raise OptionError(
            f"{name} takes {excess.text}; raise the limit, or fix fewer options so that a search can choose"
        )
