"""Hides how what a device was taught comes to this host, as a state folder that `edgetl merge` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetl.deployment.transport.base import Transport
from edgetl.durable import make_folder, replace_file
from edgetl.errors import OptionError
from edgetl.runtime.learning import JOURNAL_FILE


def pull(transport: Transport, folder: Path) -> dict[str, Any]:
    """Copy what a device was taught into a new state folder; returns what it holds, as JSON takes it.

    The device goes on learning meanwhile. Pulled again, into another folder, pictures still count once in a merge.

    Raises:
        OptionError: there is such a folder already.
        DeviceError: the device cannot be reached, or nothing was taught to what it runs.
    """
    if folder.exists():
        raise OptionError(f"{folder} is there already; give the name of a new folder")
    taken = transport.tell("snapshot")
    try:
        content = transport.fetch(taken["file"], taken["sha256"])
    finally:
        transport.remove(taken["file"])
    make_folder(folder)
    replace_file(folder / JOURNAL_FILE, content)
    described = {name: taken[name] for name in ("name", "bundle", "pictures", "thumbnails")}
    return {"where": transport.where, "state": str(folder), **described}
