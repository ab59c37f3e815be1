"""The way from the host to devices: bundles are sent, proven there, switched to and rolled back."""

from __future__ import annotations

from edgetl.deployment.ansible import Reached, Rollout, roll_out
from edgetl.deployment.delivery import Deployed, deploy
from edgetl.deployment.fleet import Outcome, deploy_each, slowest
from edgetl.deployment.lessons import teach
from edgetl.deployment.measurement import bench
from edgetl.deployment.payload import Lacking, trim
from edgetl.deployment.retrieval import pull
from edgetl.deployment.serving import install_service
from edgetl.deployment.transport.base import LocalTransport, Transport, connect

__all__ = [
    "Deployed",
    "Lacking",
    "LocalTransport",
    "Outcome",
    "Reached",
    "Rollout",
    "Transport",
    "bench",
    "connect",
    "deploy",
    "deploy_each",
    "install_service",
    "pull",
    "roll_out",
    "slowest",
    "teach",
    "trim",
]
