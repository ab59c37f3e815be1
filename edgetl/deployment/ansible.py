"""Deploys a bundle to the devices of an Ansible inventory in waves, and stops if too many fail.

The playbook and its role are in examples/fleet; Ansible users can run them directly.
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

from edgetl.deployment.transport import TOO_OLD, is_too_old
from edgetl.errors import DeviceError, MissingExtraError, OptionError
from edgetl.progress import Progress
from edgetl.runtime.system import data_folder

UPDATED, UNCHANGED, OUTDATED = "updated", "unchanged", "outdated"
"""States of a device that the role reports; outdated is a device without the bundle in a check."""
FAILED = "failed"
NOT_REACHED = "not reached"
"""The state of a device that the rollout stopped before."""

_ERROR = re.compile(r"\[?ERROR\]?[:!]+ ")
_WAVE = re.compile(r"[1-9]\d*|[1-9]\d?%|100%")


@dataclass(frozen=True)
class RolloutOptions:
    """How a bundle is deployed to the devices of an inventory.

    Raises:
        OptionError: the inventory does not exist, or a wave is invalid.
    """

    inventory: Path
    limit: Optional[str] = None
    """Only these devices, as an Ansible pattern."""
    waves: Optional[Sequence[str]] = None
    """How many devices are updated at once after the canaries, wave by wave: numbers, or percentages such as "10%"."""
    max_fail_percentage: Optional[float] = None
    """The rollout stops if more than this percentage of a wave fails."""
    check: bool = False
    """Change nothing; report which devices are outdated."""
    fresh: bool = False
    """Leave what was taught with the bundle that runs now."""
    allow_downgrade: bool = False
    """Accept a signed bundle that is older than the running one."""
    whole: bool = False
    """Send the whole bundle, including what a device already has."""
    ssh_config: Optional[Path] = None
    """Read instead of ~/.ssh/config."""
    accept_new_host_key: bool = False
    """Accept the key of an unknown host."""

    def __post_init__(self) -> None:
        if not self.inventory.exists():
            raise OptionError(f"inventory not found: {self.inventory}; see the example {_example()}")
        for wave in self.waves or ():
            if not _WAVE.fullmatch(wave):
                raise OptionError(f"invalid wave '{wave}': expected numbers of devices or percentages, e.g. 1,10%,100%")


@dataclass(frozen=True)
class RolloutOutcome:
    """The result of a rollout for one device."""

    host: str
    state: str = NOT_REACHED
    """UPDATED, UNCHANGED, OUTDATED, FAILED or NOT_REACHED."""
    fault: str = ""
    """Why it failed."""
    sent_bytes: int = 0
    """Size of the payload that it was sent, if it is UPDATED."""

    @property
    def is_ok(self) -> bool:
        """Whether the device was reached and did not fail."""
        return self.state not in (FAILED, NOT_REACHED)

    def to_dict(self) -> dict[str, Any]:
        """The value as a JSON object."""
        return asdict(self)


def roll_out(bundle: Path, options: RolloutOptions, progress: Optional[Progress] = None) -> list[RolloutOutcome]:
    """Make a bundle the one that the devices of an inventory run: first the canaries, then the others in waves.

    Returns an outcome for each device, in the order of the inventory. A device on which the bundle fails goes on with
    what it ran before.

    Raises:
        OptionError: the inventory contains no such devices.
        DeviceError: Ansible cannot read the inventory, or ended before it reached a device.
        MissingExtraError: Ansible is not installed.
    """
    hosts = _hosts(options)
    outcomes = {host: RolloutOutcome(host) for host in hosts}

    def record(event: Mapping[str, Any]) -> None:
        host = event["host"]
        outcomes[host] = _updated(outcomes[host], event)
        if progress:
            done = sum(outcome.state != NOT_REACHED for outcome in outcomes.values())
            progress("devices", done, len(outcomes))

    reason = _play(bundle, options, record)
    if reason and all(outcome.state == NOT_REACHED for outcome in outcomes.values()):
        raise DeviceError(f"Ansible ended before it reached a device: {reason}")
    return list(outcomes.values())


def playbook_folder() -> Path:
    """The folder of the playbooks."""
    return data_folder("fleet_data")


def program(name: str) -> str:
    """The path of one of Ansible's programs, beside this Python or on the PATH. Raises MissingExtraError."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise MissingExtraError("ansible-core", "fleet", "deploying to an inventory")
    return found


def _updated(outcome: RolloutOutcome, event: Mapping[str, Any]) -> RolloutOutcome:
    """The outcome after an event of the callback plugin in examples/fleet."""
    fault = event.get("fault")
    if fault is not None:
        return RolloutOutcome(outcome.host, FAILED, TOO_OLD if is_too_old(event.get("code"), fault) else fault)
    if event.get("state"):
        return replace(outcome, state=event["state"])
    if event.get("size_bytes"):
        return replace(outcome, sent_bytes=event["size_bytes"])
    return outcome


def _hosts(options: RolloutOptions) -> list[str]:
    """The names of the devices, group by group, each once."""
    command = [program("ansible-inventory"), "--inventory", str(options.inventory), "--list", *_limit(options)]
    ran = subprocess.run(command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        raise DeviceError(f"Ansible cannot read {options.inventory}: {_error_line(ran.stderr)}")
    groups = json.loads(ran.stdout)
    hosts = list(dict.fromkeys(host for group in groups.values() for host in group.get("hosts", ())))
    if not hosts:
        matching = f" that matches '{options.limit}'" if options.limit else ""
        raise OptionError(f"{options.inventory} contains no device{matching}; see the example {_example()}")
    return hosts


def _play(bundle: Path, options: RolloutOptions, record: Callable[[Mapping[str, Any]], None]) -> str:
    """Run the playbook and pass its events on; return Ansible's error if it failed, else an empty string."""
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            _command(bundle, options),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as running:
            for line in running.stdout or ():
                if line.startswith("{"):
                    record(json.loads(line))
        errors.seek(0)
        return _error_line(errors.read()) if running.returncode else ""


def _environment() -> dict[str, str]:
    """Variables that make Ansible print the events, and fail if it cannot read the inventory."""
    return {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(playbook_folder() / "callback_plugins"),
        "ANSIBLE_STDOUT_CALLBACK": "edgetl_events",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
        "ANSIBLE_NOCOLOR": "1",
    }


def _command(bundle: Path, options: RolloutOptions) -> list[str]:
    variables: dict[str, Any] = {
        "edgetl_bundle": str(bundle.absolute()),
        "edgetl_command": [sys.executable, "-m", "edgetl"],
        "edgetl_install_options": _flags({"--fresh": options.fresh, "--allow-downgrade": options.allow_downgrade}),
        "edgetl_prepare_options": _flags({"--accept-new-host-key": options.accept_new_host_key}),
    }
    if options.whole:  # else the inventory decides
        variables["edgetl_whole"] = True
    if options.waves is not None:
        variables["edgetl_waves"] = list(options.waves)
    if options.max_fail_percentage is not None:
        variables["edgetl_max_fail_percentage"] = options.max_fail_percentage
    ssh = ["-o StrictHostKeyChecking=accept-new"] if options.accept_new_host_key else []
    if options.ssh_config is not None:
        config = str(options.ssh_config.absolute())
        variables["edgetl_prepare_options"] += ["--ssh-config", config]
        ssh.append(f"-F {shlex.quote(config)}")
    command = [program("ansible-playbook"), str(playbook_folder() / "deploy.yml")]
    command += ["--inventory", str(options.inventory), *_limit(options), "--extra-vars", json.dumps(variables)]
    command += [f"--ssh-common-args={' '.join(ssh)}"] if ssh else []
    return [*command, *_flags({"--check": options.check})]


def _flags(wanted: Mapping[str, bool]) -> list[str]:
    return [flag for flag, is_wanted in wanted.items() if is_wanted]


def _limit(options: RolloutOptions) -> list[str]:
    return [] if options.limit is None else ["--limit", options.limit]


def _example() -> Path:
    return playbook_folder() / "hosts.ini"


def _error_line(text: str) -> str:
    """The first line that Ansible marks as an error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if _ERROR.match(line)]
    return _ERROR.sub("", (marked or lines[-1:] or ["no reason given"])[0])
