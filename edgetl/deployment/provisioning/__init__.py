"""Prepares a device that has only Python: finds out what it is, and installs edgetl in an environment of its own."""

from edgetl.deployment.provisioning.diagnosis import CheckResult, Diagnosis, diagnose
from edgetl.deployment.provisioning.environment import Machine, Prepared, prepare, probe_machine
from edgetl.deployment.provisioning.host_packages import Package, doctor, list_packages

__all__ = [
    "CheckResult",
    "Diagnosis",
    "Machine",
    "Package",
    "Prepared",
    "diagnose",
    "doctor",
    "list_packages",
    "prepare",
    "probe_machine",
]
