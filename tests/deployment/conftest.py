"""Bundles to deploy, and a server to deploy them to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.server import Server, serving
from tests.emulation.tools import or_skip


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """This machine as a device that answers SSH; the test is skipped if it cannot be one."""
    with or_skip(), serving(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate cache for the test, because earlier deployments change what is sent."""
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
