"""Whatever kills an install or a rollback, a proven bundle runs and knows what it was taught."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.install_kill import run
from tests.runtime.device.installing import Releases


@pytest.mark.slow
def test_no_kill_leaves_a_device_without_a_working_bundle(releases: Releases, tmp_path: Path) -> None:
    found = run(releases.first, tmp_path, kills=25, seed=1)
    assert found["finished"] < 25
    assert (found["broken"], found["unproven"], found["forgotten"]) == (0, 0, 0)
