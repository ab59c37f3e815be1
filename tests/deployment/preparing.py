"""Prepares a device, or skips the test where the wheels cannot be downloaded."""

from __future__ import annotations

import pytest

from edgetl.deployment.provisioning import Prepared, prepare
from edgetl.deployment.transport import SshTransport
from edgetl.errors import DeviceError


def prepare_or_skip(transport: SshTransport) -> Prepared:
    """Install edgetl on a device; skip the test if its wheels cannot be downloaded."""
    try:
        return prepare(transport)
    except DeviceError as error:
        if "cannot get the wheels" not in str(error):
            raise
        pytest.skip(str(error))
