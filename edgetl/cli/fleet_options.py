"""The options of `edgetl deploy --inventory`, and the report of a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import click

from edgetl.cli.console import echo, print_json, print_table, show_progress
from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.deployment import RolloutOptions, RolloutOutcome

STOPPED = 1
"""Exit code if a device failed or was not reached."""

Command = Callable[..., Any]


def rollout_options(command: Command) -> Command:
    """Add the options of a deployment to a fleet."""
    for option in (
        click.option("--check", is_flag=True, help="Change nothing; report which devices are outdated."),
        click.option(
            "--max-fail-percentage",
            type=click.FloatRange(0, 100),
            help="Stop the rollout if a larger percentage of a wave fails.  [default: 10]",
        ),
        click.option(
            "--waves",
            metavar="N,N%,...",
            callback=lambda context, parameter, value: value and value.split(","),
            help="How many devices to update at once, wave by wave.  [default: 1,10%,100%]",
        ),
        click.option("--limit", metavar="PATTERN", help="Deploy only to these hosts or groups of the inventory."),
        click.option(
            "--inventory",
            type=click.Path(path_type=Path),
            help="Deploy to a fleet: the devices of this Ansible inventory, the group canary first.",
        ),
    ):
        command = option(command)
    return command


def require_fleet(**options: Any) -> None:
    """Raise OptionError if an option of a rollout was given without an inventory."""
    if any(options.values()):
        raise OptionError("--limit, --waves, --max-fail-percentage and --check need --inventory")


def require_no_single_device(**options: Any) -> None:
    """Raise OptionError if an argument for single devices was given with an inventory."""
    if any(options.values()):
        raise OptionError(
            "--inventory cannot be combined with HOST, --service, --root or --python; list the hosts in the inventory, "
            "with edgetl_root and edgetl_python as their variables"
        )


def roll_out(bundle: Path, options: RolloutOptions, as_json: bool) -> None:
    """Roll a bundle out, print the outcome for each device, and exit with STOPPED unless all succeeded."""
    from edgetl.deployment import roll_out as roll_out_bundle

    with show_progress() as progress:
        outcomes = roll_out_bundle(bundle, options, progress)
    if as_json:
        print_json([one.to_dict() for one in outcomes])
    else:
        _print_outcomes(outcomes)
    if not all(one.is_ok for one in outcomes):
        raise SystemExit(STOPPED)


def _print_outcomes(outcomes: Sequence[RolloutOutcome]) -> None:
    from edgetl.deployment.ansible import NOT_REACHED

    print_table(["device", "state", "sent kB", "fault"], [_row(one) for one in outcomes])
    counts = Counter(one.state for one in outcomes)
    stopped = ": the rollout stopped before them" if counts[NOT_REACHED] else ""
    echo(", ".join(f"{count} {state}" for state, count in counts.items()) + stopped)


def _row(outcome: RolloutOutcome) -> list[str]:
    sent = f"{outcome.sent_bytes / 1e3:,.0f}" if outcome.sent_bytes else ""
    return [outcome.host, outcome.state, sent, outcome.fault]
