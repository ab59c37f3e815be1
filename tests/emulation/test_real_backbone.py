"""What a build ships, with a real backbone, proves itself on every emulated Raspberry Pi."""

from __future__ import annotations

import json

import pytest

from edgetl.runtime.inference.canaries import TOLERANCE
from tests.emulation.process import EmulatedPython
from tests.pipeline.builds import CLASSES, Built

pytestmark = pytest.mark.slow


def test_a_build_proves_itself_with_room_to_spare(emulated: EmulatedPython, built: Built) -> None:
    ran = emulated.run("-m", "edgetl.runtime", "prove", built.result.bundle, "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["canaries"] == len(CLASSES)
    assert 1 - found["cosine"] < 0.5 * (1 - TOLERANCE["cosine"])
    assert found["probability_gap"] < TOLERANCE["probability"]
