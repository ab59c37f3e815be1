"""Runs a real systemd as a user's service manager, isolated from the services of this machine.

It sees this machine's files, but has its own /run and its own control group.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.emulation.tools import UnavailableError
from tests.models import CACHE

START_SECONDS = 20.0
MANAGER = Path("/usr/lib/systemd/systemd")

IN_NAMESPACE = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$0"
echo $$ > "/sys/fs/cgroup/$0/cgroup.procs"
exec unshare --cgroup "$@"
"""

CLEAR = """\
mount -t cgroup2 none /sys/fs/cgroup
find "/sys/fs/cgroup/$0" -depth -type d -exec rmdir {} +
"""


@contextmanager
def managing() -> Iterator[dict[str, str]]:
    """The environment of those whose services it manages. Raises UnavailableError where this machine cannot run one."""
    if os.geteuid() != 0 or not MANAGER.exists():
        raise UnavailableError("a service manager of its own needs systemd and root's rights")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgetl-", dir=CACHE) as folder:  # services do not see the sockets of /tmp
        environment = {"XDG_RUNTIME_DIR": f"{folder}/run", "XDG_CONFIG_HOME": f"{folder}/config", "HOME": folder}
        for name in ("run", "config/systemd/user"):
            Path(folder, name).mkdir(mode=0o700, parents=True)
        _show_own_files(Path(folder, "config/systemd/user"))
        group = Path(folder).name
        isolated = ["unshare", "--mount", "sh", "-c", IN_NAMESPACE]
        log = Path(folder, "log")
        with log.open("w") as written:
            process = subprocess.Popen(
                [*isolated, group, str(MANAGER), "--user", "--log-target=console"],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )
        try:
            _wait(environment, process, log)
            yield environment
        finally:
            process.terminate()  # it stops its services first
            process.wait(START_SECONDS)
            _clear(group)


def _show_own_files(units: Path) -> None:
    """Services have a /tmp of their own; where this project or its Python lies in the machine's, they must see that."""
    if any(Path("/tmp") in path.parents for path in (Path(__file__), Path(sys.executable), CACHE)):
        every_service = units / "service.d"
        every_service.mkdir()
        (every_service / "tmp.conf").write_text("[Service]\nPrivateTmp=no\n")


def _wait(environment: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        asked = subprocess.run(
            ["systemctl", "--user", "show", "--property=Version"],
            env={**os.environ, **environment},
            capture_output=True,
        )
        if asked.returncode == 0:
            return
        time.sleep(0.1)
    said = log.read_text().strip().splitlines() or ["it printed nothing"]
    raise UnavailableError(f"the service manager does not answer: {said[-1]}")


def _clear(group: str) -> None:
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(["unshare", "--mount", "sh", "-c", CLEAR, group], capture_output=True, timeout=START_SECONDS)
