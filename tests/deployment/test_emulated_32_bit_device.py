"""A 32-bit Raspberry Pi, with numpy and Pillow from its system, is diagnosed, prepared, deployed to and taught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetl.deployment import connect, deploy, teach
from edgetl.deployment.provisioning import diagnose
from edgetl.deployment.transport import SshTransport
from tests.deployment.preparing import prepare_or_skip
from tests.emulation.device import running
from tests.emulation.machines import ARMHF
from tests.emulation.tools import or_skip
from tests.runtime.device.installing import Releases
from tests.runtime.learning.states import frame, jpeg

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshTransport]:
    """As it comes from its first start; a visible skip where this machine cannot run one."""
    folder = tmp_path_factory.mktemp("device")
    with or_skip(), running(ARMHF, folder) as device, connect("device", ssh_config=device.config) as transport:
        assert isinstance(transport, SshTransport)
        yield transport


def test_it_is_diagnosed_prepared_updated_and_taught(fresh: SshTransport, releases: Releases, tmp_path: Path) -> None:
    found = diagnose(fresh)
    assert (found.is_usable, found.device) == (True, None)
    assert (found.machine.architecture, set(found.machine.packages)) == ("armv7l", {"numpy", "PIL"})
    assert prepare_or_skip(fresh).changed
    assert deploy(releases.first, fresh).installed.replay.interpreter == "tflite-runtime 2.14.0"
    (tmp_path / "yellow.jpg").write_bytes(jpeg(frame("yellow")))
    assert teach(fresh, "yellow", [tmp_path / "yellow.jpg"]).labels[-1] == "yellow"
