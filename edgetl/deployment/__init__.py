"""Deploys bundles from the host to devices: sends, verifies, switches, rolls back; teaches and measures there."""

from __future__ import annotations

from edgetl.deployment.ansible import RolloutOptions, RolloutOutcome, roll_out
from edgetl.deployment.answers import (
    DeviceInventory,
    DeviceMachine,
    HeldBundle,
    InstalledService,
    RemovedService,
    ServiceStatus,
    TaughtStep,
)
from edgetl.deployment.delivery import Deployed, deploy
from edgetl.deployment.parallel_deployment import DeployOutcome, deploy_each, slowest
from edgetl.deployment.payload import Payload, trim
from edgetl.deployment.remote_verbs import (
    DeviceListing,
    DeviceStatus,
    Pulled,
    bench,
    devices,
    install_service,
    inventory,
    logs,
    pull,
    rollback,
    service,
    status,
    teach,
    trust_key,
)
from edgetl.deployment.signing_keys import Signed, SigningKey, find_public_key, list_keys, new_key, sign
from edgetl.deployment.transport import LocalTransport, Transport, connect

__all__ = [
    "DeployOutcome",
    "Deployed",
    "DeviceInventory",
    "DeviceListing",
    "DeviceMachine",
    "DeviceStatus",
    "HeldBundle",
    "InstalledService",
    "LocalTransport",
    "Payload",
    "Pulled",
    "RemovedService",
    "RolloutOptions",
    "RolloutOutcome",
    "ServiceStatus",
    "Signed",
    "SigningKey",
    "TaughtStep",
    "Transport",
    "bench",
    "connect",
    "deploy",
    "deploy_each",
    "devices",
    "find_public_key",
    "install_service",
    "inventory",
    "list_keys",
    "logs",
    "new_key",
    "pull",
    "roll_out",
    "rollback",
    "service",
    "sign",
    "slowest",
    "status",
    "teach",
    "trim",
    "trust_key",
]
