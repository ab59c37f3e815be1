"""What one run of a model takes, by kind of work, and what that costs beside another model; latency estimates use it.

Multiply-accumulates alone foretell latency badly: a depthwise convolution does little arithmetic with each value that
it loads, every parameter is loaded once a run, and an Edge TPU spends most of a small model's time on the way to it.
The prices were fitted to published latencies; `python -m benchmarks.latency` fits them anew and prints what is missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Optional


class Prices(NamedTuple):
    """What work costs on an accelerator, in multiply-accumulates of a plain convolution.

    `run` is what any run costs; `error` the standard error of latencies scaled by these prices, as a share.
    """

    depthwise: float
    parameter: float
    run: float
    error: float


PRICES: Mapping[str, Prices] = {
    "cpu": Prices(depthwise=8.8, parameter=19.7, run=0.0, error=0.1),
    "edgetpu": Prices(depthwise=1.0, parameter=0.0, run=1.5e9, error=0.2),
}
"""By accelerator; `error` is that for models of a kind that the fit has not seen."""


@dataclass(frozen=True)
class Workload:
    """The work of one run: multiply-accumulates, how many of them are depthwise, and the parameters."""

    macs: int
    depthwise_macs: int
    parameters: int

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Optional[Workload]:
        """That of a backbone as a bundle describes it; None where the description leaves it open."""
        values = [description.get(field.name) for field in fields(cls)]
        counts = [value for value in values if type(value) is int and value >= 0]
        return cls(*counts) if len(counts) == len(values) and counts[0] else None

    def to_dict(self) -> dict[str, int]:
        """As a bundle describes it."""
        return asdict(self)

    def resized(self, ratio: float) -> Workload:
        """With `ratio` times as many pixels."""
        return Workload(round(self.macs * ratio), round(self.depthwise_macs * ratio), self.parameters)

    def cost(self, accelerator: str) -> float:
        """What a run costs on "cpu" or "edgetpu", in multiply-accumulates of a plain convolution."""
        prices = PRICES[accelerator]
        plain = self.macs - self.depthwise_macs
        return plain + prices.depthwise * self.depthwise_macs + prices.parameter * self.parameters + prices.run
