"""Hides ansible-playbook: a bundle goes to the devices of an inventory in waves, and stops where too many fail.

The playbook and its role are those of examples/fleet, which Ansible's users call without this front.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional

from edgetl.deployment.transport.base import TOO_OLD, is_too_old
from edgetl.errors import DeviceError, MissingExtraError, OptionError
from edgetl.progress import Progress
from edgetl.runtime.system import data_folder

UPDATED, UNCHANGED, OUTDATED = "updated", "unchanged", "outdated"
"""What the role makes of a device; outdated is one that a check has found without the bundle."""
FAILED = "failed"
NOT_REACHED = "not reached"
"""The rollout had stopped before."""

_ERROR = re.compile(r"\[?ERROR\]?[:!]+ ")
_WAVE = re.compile(r"[1-9]\d*|[1-9]\d?%|100%")


@dataclass(frozen=True)
class Rollout:
    """How a bundle goes to the devices of an inventory. Raises OptionError where a value is out of range."""

    inventory: Path
    limit: Optional[str] = None
    """Only these of its devices, as Ansible's patterns name them."""
    waves: Optional[Sequence[str]] = None
    """How many devices after the canaries are given it at once, one after another: numbers, or "10%"."""
    max_fail_percentage: Optional[float] = None
    """More failures than that in a wave end the rollout."""
    check: bool = False
    """Change nothing, and tell which devices are outdated."""
    fresh: bool = False
    """Leave what was taught with the bundle that runs now."""
    allow_downgrade: bool = False
    """Take a signed bundle though it is older than what runs."""
    whole: bool = False
    """Send all of the bundle, also what a device has."""
    ssh_config: Optional[Path] = None
    """Stands for ~/.ssh/config."""
    accept_new_host_key: bool = False
    """Trust the key of a host that is not known yet."""

    def __post_init__(self) -> None:
        if not self.inventory.exists():
            raise OptionError(f"there is no inventory at {self.inventory}; one is like {_example()}")
        for wave in self.waves or ():
            if not _WAVE.fullmatch(wave):
                raise OptionError(f"'{wave}' is no wave; give numbers of devices or percentages: 1,10%,100%")


@dataclass(frozen=True)
class Reached:
    """What became of one device of an inventory."""

    host: str
    state: str = NOT_REACHED
    """UPDATED, UNCHANGED, OUTDATED, FAILED or NOT_REACHED."""
    fault: str = ""
    """Why it failed."""
    sent_bytes: int = 0
    """The size of what it was sent, where it is UPDATED: what it lacked of the bundle."""

    @property
    def is_well(self) -> bool:
        """Whether the rollout did with it what it was to do."""
        return self.state not in (FAILED, NOT_REACHED)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def roll_out(bundle: Path, rollout: Rollout, progress: Optional[Progress] = None) -> list[Reached]:
    """Make a bundle the one that the devices of an inventory run; the canaries first, then the others in waves.

    Returns what became of each device, in the inventory's order. One on which the bundle fails its proof
    runs what it ran before.

    Raises:
        OptionError: the inventory holds no such devices.
        DeviceError: Ansible cannot make sense of what it was given.
        MissingExtraError: there is no Ansible.
    """
    hosts = _hosts(rollout)
    reached = {host: Reached(host) for host in hosts}

    def hear(event: Mapping[str, Any]) -> None:
        host, fault = event["host"], event.get("fault")
        if fault is not None:
            reached[host] = Reached(host, FAILED, TOO_OLD if is_too_old(fault) else fault)
        elif event.get("state"):
            reached[host] = replace(reached[host], state=event["state"])
        elif event.get("size_bytes"):
            reached[host] = replace(reached[host], sent_bytes=event["size_bytes"])
        if progress:
            done = sum(one.state != NOT_REACHED for one in reached.values())
            progress("devices", done, len(reached))

    complaint = _play(bundle, rollout, hear)
    outcomes = list(reached.values())
    if complaint and all(one.state == NOT_REACHED for one in outcomes):
        raise DeviceError(f"Ansible ended before it reached a device: {complaint}")
    return outcomes


def playbook_folder() -> Path:
    """The folder of the playbook."""
    return data_folder("fleet_data")


def program(name: str) -> str:
    """One of Ansible's programs: beside this Python, or on the PATH. Raises MissingExtraError."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise MissingExtraError("ansible-core", "fleet", "an inventory")
    return found


def _hosts(rollout: Rollout) -> list[str]:
    """The names of the devices, by group, each once."""
    command = [program("ansible-inventory"), "--inventory", str(rollout.inventory), "--list", *_limit(rollout)]
    ran = subprocess.run(command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        raise DeviceError(f"Ansible cannot read {rollout.inventory}: {_complaint(ran.stderr)}")
    groups = json.loads(ran.stdout)
    hosts = list(dict.fromkeys(host for group in groups.values() for host in group.get("hosts", ())))
    if not hosts:
        of = f" that '{rollout.limit}' names" if rollout.limit else ""
        raise OptionError(f"{rollout.inventory} holds no device{of}; an inventory is like {_example()}")
    return hosts


def _play(bundle: Path, rollout: Rollout, hear: Callable[[Mapping[str, Any]], None]) -> str:
    """Runs the playbook, and passes on what happens to the devices; returns what Ansible complains of at its end."""
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(
            _command(bundle, rollout),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as running:
            for line in running.stdout or ():
                if line.startswith("{"):
                    hear(json.loads(line))
        complaints.seek(0)
        return _complaint(complaints.read()) if running.returncode else ""


def _environment() -> dict[str, str]:
    """What makes Ansible print the events, and an inventory that it cannot read an error."""
    return {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(playbook_folder() / "callback_plugins"),
        "ANSIBLE_STDOUT_CALLBACK": "edgetl_events",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
        "ANSIBLE_NOCOLOR": "1",
    }


def _command(bundle: Path, rollout: Rollout) -> list[str]:
    variables: dict[str, Any] = {
        "edgetl_bundle": str(bundle.absolute()),
        "edgetl_command": [sys.executable, "-m", "edgetl"],
        "edgetl_install_options": _given({"--fresh": rollout.fresh, "--allow-downgrade": rollout.allow_downgrade}),
        "edgetl_prepare_options": _given({"--accept-new-host-key": rollout.accept_new_host_key}),
    }
    if rollout.whole:  # else as the inventory has it
        variables["edgetl_whole"] = True
    if rollout.waves is not None:
        variables["edgetl_waves"] = list(rollout.waves)
    if rollout.max_fail_percentage is not None:
        variables["edgetl_max_fail_percentage"] = rollout.max_fail_percentage
    ssh = ["-o StrictHostKeyChecking=accept-new"] if rollout.accept_new_host_key else []
    if rollout.ssh_config is not None:
        config = str(rollout.ssh_config.absolute())
        variables["edgetl_prepare_options"] += ["--ssh-config", config]
        ssh.append(f"-F {shlex.quote(config)}")
    command = [program("ansible-playbook"), str(playbook_folder() / "deploy.yml")]
    command += ["--inventory", str(rollout.inventory), *_limit(rollout), "--extra-vars", json.dumps(variables)]
    command += [f"--ssh-common-args={' '.join(ssh)}"] if ssh else []
    return [*command, *_given({"--check": rollout.check})]


def _given(flags: Mapping[str, bool]) -> list[str]:
    return [flag for flag, wanted in flags.items() if wanted]


def _limit(rollout: Rollout) -> list[str]:
    return [] if rollout.limit is None else ["--limit", rollout.limit]


def _example() -> Path:
    return playbook_folder() / "hosts.ini"


def _complaint(text: str) -> str:
    """The first line that Ansible marks as an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if _ERROR.match(line)]
    return _ERROR.sub("", (marked or lines[-1:] or ["it gave no reason"])[0])
