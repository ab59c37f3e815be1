"""Hides how many devices are deployed to at once; one that fails keeps none of the others back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Optional

from edgetl.deployment.delivery import Deployed
from edgetl.errors import EdgetlError

AT_ONCE = 16
"""Devices that are deployed to at the same time: a host mostly waits for them."""


@dataclass(frozen=True)
class Outcome:
    """What became of one device: `deployed`, or else the `fault`."""

    where: str
    deployed: Optional[Deployed] = None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return self.deployed.to_dict() if self.deployed else {"where": self.where, "fault": self.fault}


def deploy_each(where: Sequence[str], deploy_to: Callable[[str], Deployed]) -> list[Outcome]:
    """Deploy to devices at the same time; the outcomes are in their order."""

    def attempt(one: str) -> Outcome:
        try:
            return Outcome(one, deploy_to(one))
        except EdgetlError as error:
            return Outcome(one, fault=str(error))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(attempt, where))


def slowest(outcomes: Sequence[Outcome]) -> Optional[Deployed]:
    """The deployment that took longest; None where none succeeded."""
    return max((o.deployed for o in outcomes if o.deployed), key=lambda deployed: deployed.seconds, default=None)
