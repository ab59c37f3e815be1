"""What `edgetl deploy --inventory` has of its own: its options, and how it tells what became of a fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import click

from edgetl.cli import print_json
from edgetl.cli.console import print_table, show_progress
from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.deployment import RolloutOptions, RolloutOutcome

STOPPED = 1
"""Exit code where a device failed or was not reached."""

Command = Callable[..., Any]


def rollout_options(command: Command) -> Command:
    """The options that turn a deployment to devices into one to a fleet."""
    for option in (
        click.option("--check", is_flag=True, help="Change nothing, and tell which devices are outdated."),
        click.option(
            "--max-fail-percentage",
            type=click.FloatRange(0, 100),
            help="End the rollout when more of a wave fail.  [default: 10]",
        ),
        click.option(
            "--waves",
            metavar="N,N%,...",
            callback=lambda context, parameter, value: value and value.split(","),
            help="So many at once, wave by wave.  [default: 1,10%,100%]",
        ),
        click.option("--limit", metavar="PATTERN", help="Only these hosts or groups of the inventory."),
        click.option(
            "--inventory",
            type=click.Path(path_type=Path),
            help="Deploy to a fleet: the devices of this Ansible inventory, its group canary first.",
        ),
    ):
        command = option(command)
    return command


def require_fleet(**given: Any) -> None:
    """Raise OptionError where an option of a rollout was given without an inventory."""
    if any(given.values()):
        raise OptionError("--limit, --waves, --max-fail-percentage and --check go with --inventory")


def require_no_single_device(**given: Any) -> None:
    """Raise OptionError where what only one device takes was given beside an inventory."""
    if any(given.values()):
        raise OptionError(
            "--inventory goes without HOST, --service, --root and --python; an inventory has its hosts, and "
            "edgetl_root and edgetl_python as their variables"
        )


def roll_out(bundle: Path, rollout: RolloutOptions, as_json: bool) -> None:
    """Roll a bundle out, tell what became of each device, and end with STOPPED unless all is well."""
    from edgetl.deployment import roll_out as roll_out_bundle

    with show_progress() as progress:
        reached = roll_out_bundle(bundle, rollout, progress)
    if as_json:
        print_json([one.to_dict() for one in reached])
    else:
        _tell(reached)
    if not all(one.is_ok for one in reached):
        raise SystemExit(STOPPED)


def _tell(reached: Sequence[RolloutOutcome]) -> None:
    from edgetl.deployment.ansible import NOT_REACHED

    print_table(["device", "state", "sent kB", "fault"], [_row(one) for one in reached])
    counts = Counter(one.state for one in reached)
    stopped = ": the rollout stopped before" if counts[NOT_REACHED] else ""
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()) + stopped)


def _row(one: RolloutOutcome) -> list[str]:
    return [one.host, one.state, f"{one.sent_bytes / 1e3:,.0f}" if one.sent_bytes else "", one.fault]
