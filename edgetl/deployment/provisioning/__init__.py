"""Prepares a device that has only Python: finds out what it is, and installs edgetl in an environment of its own."""

from edgetl.deployment.provisioning.diagnosis import CheckResult, Diagnosis, diagnose, doctor
from edgetl.deployment.provisioning.environment import (
    Machine,
    Prepared,
    camera_advice,
    prepare,
    probe_machine,
    require_ssh,
)

__all__ = [
    "CheckResult",
    "Diagnosis",
    "Machine",
    "Prepared",
    "camera_advice",
    "diagnose",
    "doctor",
    "prepare",
    "probe_machine",
    "require_ssh",
]
