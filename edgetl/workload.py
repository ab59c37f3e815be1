"""Describes the work of one run of a model, and weights it for latency estimates.

Multiply-accumulates alone predict latency badly: a depthwise convolution does little arithmetic per value that it
loads, every parameter is loaded once per run, and an Edge TPU needs most of the time of a small model for the data
transfer. The prices were fitted to published latencies; `python -m benchmarks.latency` repeats the fit and prints the
errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Optional


class Prices(NamedTuple):
    """The cost of work on an accelerator, in multiply-accumulates of an ordinary convolution.

    Attributes:
        depthwise: of one depthwise multiply-accumulate.
        parameter: of one parameter.
        run: of any run, whatever the model.
        error: the relative standard error of latencies that are scaled with these prices.
    """

    depthwise: float
    parameter: float
    run: float
    error: float


PRICES: Mapping[str, Prices] = {
    "cpu": Prices(depthwise=8.8, parameter=19.7, run=0.0, error=0.1),
    "edgetpu": Prices(depthwise=1.0, parameter=0.0, run=1.5e9, error=0.2),
}
"""By accelerator. `error` is that for kinds of models that were left out of the fit."""


@dataclass(frozen=True)
class Workload:
    """The work of one run: multiply-accumulates, the depthwise ones among them, and parameters."""

    macs: int
    depthwise_macs: int
    parameters: int

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Optional[Workload]:
        """The work of a backbone, from its description in a bundle; None if the description is incomplete."""
        values = [description.get(field.name) for field in fields(cls)]
        counts = [value for value in values if type(value) is int and value >= 0]
        return cls(*counts) if len(counts) == len(values) and counts[0] else None

    def to_dict(self) -> dict[str, int]:
        """The work as in the description of a bundle."""
        return asdict(self)

    def resized(self, ratio: float) -> Workload:
        """The work for `ratio` times as many pixels."""
        return Workload(round(self.macs * ratio), round(self.depthwise_macs * ratio), self.parameters)

    def cost(self, accelerator: str) -> float:
        """The cost of a run on "cpu" or "edgetpu", in multiply-accumulates of an ordinary convolution."""
        prices = PRICES[accelerator]
        plain = self.macs - self.depthwise_macs
        return plain + prices.depthwise * self.depthwise_macs + prices.parameter * self.parameters + prices.run
