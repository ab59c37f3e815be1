"""Deploys to several devices at the same time; a device that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Optional

from edgetl.deployment.delivery import Deployed
from edgetl.errors import EdgetlError

CONCURRENT_DEVICES = 16
"""Devices that are deployed to at the same time; the host mostly waits for them."""


@dataclass(frozen=True)
class DeployOutcome:
    """The result for one device: `deployed`, or the `fault` that prevented it."""

    where: str
    deployed: Optional[Deployed] = None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return self.deployed.to_dict() if self.deployed else {"where": self.where, "fault": self.fault}


def deploy_each(where: Sequence[str], deploy_to: Callable[[str], Deployed]) -> list[DeployOutcome]:
    """Call `deploy_to` for every device, several at the same time; return the outcomes in the order of `where`."""

    def attempt(device: str) -> DeployOutcome:
        try:
            return DeployOutcome(device, deploy_to(device))
        except EdgetlError as error:
            return DeployOutcome(device, fault=str(error))
        except Exception as error:  # an unforeseen answer of one device must not hide the others' results
            return DeployOutcome(device, fault=f"{device}: unexpected {type(error).__name__}: {error}")

    with ThreadPoolExecutor(CONCURRENT_DEVICES) as pool:
        return list(pool.map(attempt, where))


def slowest(outcomes: Sequence[DeployOutcome]) -> Optional[Deployed]:
    """The deployment that took longest; None if none succeeded."""
    deployed = [outcome.deployed for outcome in outcomes if outcome.deployed]
    return max(deployed, key=lambda one: one.seconds, default=None)
