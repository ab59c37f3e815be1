"""An empty home, without settings, cache or mirror, so that no test depends on the machine."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    for name in ("EDGETL_WEIGHTS", "EDGETL_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGETL_MIRROR", "http://127.0.0.1:9")
    return tmp_path
