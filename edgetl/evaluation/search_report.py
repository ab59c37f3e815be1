"""The report of a search, as a value: every trial with its figures, the pick, and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from edgetl.evaluation.values import Figure, encode


@dataclass(frozen=True)
class Trial:
    """One model that a search tried.

    `accuracy` is the share of right predictions on the photos that were held out in all trials, and `standard_error`
    its standard error, also a share. `log_loss` is in nats. `latency` is for the board, None if it is not known.
    `epochs` is 0 where the backbone is as published; `pruned` is the share of the multiply-accumulates that was
    removed. `on_front` is true if no other trial is at least as good in accuracy, log-loss, latency and size.
    """

    name: str
    backbone: str
    input_size: int
    epochs: int
    pruned: float
    accuracy: Figure
    standard_error: float
    log_loss: float
    latency: Optional[Figure]
    macs: int
    model_bytes: int
    ram_bytes: int
    seconds: float
    on_front: bool = False
    picked: bool = False


@dataclass(frozen=True)
class SearchReport:
    """All trials, the most accurate first; `skipped` has a line for each model that was not tried, and why."""

    target: str
    target_title: str
    source: str
    photos: int
    trials: tuple[Trial, ...]
    why: str
    skipped: tuple[str, ...]
    seconds: float

    @property
    def pick(self) -> Trial:
        """The model to build."""
        return next(trial for trial in self.trials if trial.picked)

    def to_json(self) -> dict[str, Any]:
        """What `edgetl search --json` prints."""
        content: dict[str, Any] = encode(self)
        return {**content, "pick": self.pick.name}
