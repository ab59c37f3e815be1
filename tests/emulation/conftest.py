"""The emulated Pythons that every test of this package may use, and the bundle that they learn from."""

from __future__ import annotations

import pytest

from tests.emulation.machines import ARM64, ARMHF
from tests.emulation.process import EmulatedPython
from tests.emulation.tools import or_skip

PYTHONS = [(machine, interpreter) for machine in (ARM64, ARMHF) for interpreter in machine.interpreters]


@pytest.fixture(scope="session", params=PYTHONS, ids=lambda value: f"{value[0].name}-{value[1]}")
def emulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EmulatedPython:
    """A Python of each machine with each TFLite interpreter that there is for it."""
    with or_skip():
        return EmulatedPython.in_folder(tmp_path_factory.mktemp("emulated"), *request.param)


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> EmulatedPython:
    """A 64-bit Raspberry Pi's Python, with ai-edge-litert."""
    with or_skip():
        return EmulatedPython.in_folder(tmp_path_factory.mktemp("arm64"), ARM64, "ai-edge-litert")
