"""The verbs that reach devices: prepare, deploy, service, logs, rollback, pull, devices; trim; keys and sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Callable, Optional, Union

import click

from edgetl.cli.console import echo, print_json, print_table, show_progress
from edgetl.cli.device_options import device_options, password_prompt, reach
from edgetl.cli.examples import examples
from edgetl.cli.fleet_options import require_fleet, require_no_single_device, roll_out, rollout_options
from edgetl.cli.signals import GracefulStop
from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.deployment import Deployed, DeployOutcome, DeviceListing, InstalledService
    from edgetl.runtime.device import Installed, RolledBack

FAILED = 1
"""Exit code if one of several devices failed or did not answer."""


@examples(
    "edgetl deploy leaves.edgetl pi@raspberrypi.local --service",
    "edgetl deploy leaves.edgetl --inventory hosts.ini --waves 1,10%,100%",
)
@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("where", nargs=-1, metavar="[USER@]HOST[:PORT]|FOLDER/...")
@rollout_options
@click.option("--fresh", is_flag=True, help="Leave what was taught with the bundle that runs there now.")
@click.option("--allow-downgrade", is_flag=True, help="Accept a signed bundle that is older than the running one.")
@click.option("--whole", is_flag=True, help="Send all of BUNDLE, including what the device already has.")
@click.option("--service", "serves", is_flag=True, help="Also run it as a service, like edgetl service.")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, or a list for several devices.")
def deploy(
    bundle: Path,
    where: Sequence[str],
    fresh: bool,
    allow_downgrade: bool,
    whole: bool,
    serves: bool,
    as_json: bool,
    inventory: Optional[Path],
    limit: Optional[str],
    waves: Optional[Sequence[str]],
    max_fail_percentage: Optional[float],
    check: bool,
    **options: Any,
) -> None:
    """Deploy BUNDLE to one or more devices.

    Each device verifies BUNDLE before it replaces the running one. edgetl is installed first on a device that does not
    have it, like edgetl prepare. With --inventory, Ansible deploys BUNDLE to a fleet: first to the group canary, then
    to all others in waves, until too many fail.
    """
    from edgetl.bundle import open_bundle
    from edgetl.deployment import RolloutOptions, deploy_each, install_service
    from edgetl.deployment import deploy as deploy_bundle
    from edgetl.deployment.provisioning import camera_advice, probe_machine, require_ssh
    from edgetl.deployment.provisioning import prepare as prepare_device

    open_bundle(bundle)  # report a damaged bundle before a device is reached or changed
    if inventory is not None:
        require_no_single_device(where=where, serves=serves, root=options.pop("root"), python=options.pop("python"))
        fleet = (inventory, limit, waves, max_fail_percentage, check)
        return roll_out(bundle, RolloutOptions(*fleet, fresh, allow_downgrade, whole, **options), as_json)
    require_fleet(limit=limit, waves=waves, max_fail_percentage=max_fail_percentage is not None, check=check)
    if not where:
        raise OptionError("no device given; name one as [USER@]HOST[:PORT], or a fleet: --inventory hosts.ini")
    with show_progress() as progress:

        def deploy_to(one: str) -> Deployed:
            with reach(one, len(where) == 1, **options) as transport:
                machine = prepare_device(transport, progress).machine if transport.is_bare else None
                if serves and "/" not in one:
                    advice = camera_advice(machine or probe_machine(require_ssh(transport)))
                    echo(*([f"{one}: {advice}"] if advice else []), err=True)
                done = deploy_bundle(bundle, transport, fresh, allow_downgrade, whole, progress)
                return replace(done, service=install_service(transport)) if serves else done

        if len(where) == 1:
            outcomes, done = [], deploy_to(where[0])
        else:
            outcomes = deploy_each(where, deploy_to)
    if as_json:
        print_json([outcome.to_dict() for outcome in outcomes] if outcomes else done.to_dict())
    elif outcomes:
        _print_outcomes(outcomes)
    else:
        _print_deployed(done)
    if any(outcome.fault for outcome in outcomes):
        raise SystemExit(FAILED)


@examples("edgetl trim leaves.edgetl --status status.json -o to-send")
@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--status",
    type=click.File("rb"),
    required=True,
    help="Output of `python -m edgetl.runtime status --json` on the device; - for standard input.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write to, new or empty."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def trim(bundle: Path, status: IO[bytes], output: Path, as_json: bool) -> None:
    """Write the parts of BUNDLE that a device is missing to a folder.

    This is for transfers by other means than edgetl deploy. It writes one or two files, and prints the command that
    installs them on the device.
    """
    from edgetl.deployment import trim as trim_bundle

    payload = trim_bundle(bundle, status.read(), output)
    if as_json:
        return print_json(payload.to_dict())
    echo(f"{output}: {payload.size_bytes / 1e3:,.0f} of {bundle.stat().st_size / 1e3:,.0f} kB; on the device:")
    difference = f" --difference={payload.difference.name}" if payload.difference else ""
    echo(f"python -m edgetl.runtime install {payload.bundle.name}{difference}")


@examples("edgetl prepare pi@raspberrypi.local")
@click.command()
@click.argument("where", metavar="[USER@]HOST[:PORT]")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def prepare(where: str, as_json: bool, **options: Any) -> None:
    """Install edgetl on a device, in an environment of its own.

    The device needs Python 3.9, but no internet or pip.
    """
    from edgetl.deployment.provisioning import prepare as prepare_device

    with reach(where, **options) as transport, show_progress() as progress:
        done = prepare_device(transport, progress)
    if as_json:
        return print_json(done.to_dict())
    python = ".".join(map(str, done.machine.python))
    state = f"edgetl was installed, {done.sent_bytes / 1e6:.0f} MB sent" if done.changed else "this edgetl is installed"
    echo(f"{where}: {done.machine.board or done.machine.architecture}, Python {python}, {state}")


def _print_deployed(done: Deployed) -> None:
    installed, replay = done.installed, done.installed.replay
    state = "runs now" if installed.changed else "was already running"
    echo(f"{done.where}: {installed.name} {installed.digest[:12]} {state}: {installed.bundle}")
    echo(
        f"{replay.canaries} canaries answered as on the host (similarity {replay.cosine:.4f}), "
        f"{replay.latency_ms:.1f} ms each, on {replay.interpreter} ({replay.accelerator})"
    )
    echo(f"sent {done.sent_bytes / 1e3:,.0f} of {done.bundle_bytes / 1e3:,.0f} kB, {done.seconds:.1f} s")
    _print_carried(installed, "there")
    if done.service:
        _print_service(done.service)


def _print_carried(done: Union[Installed, RolledBack], when: str) -> None:
    if done.carried or done.not_carried:
        lost = f"; {done.not_carried} without a thumbnail stayed with the old bundle" if done.not_carried else ""
        pictures = f"{done.carried} picture{'s' if done.carried != 1 else ''}"
        echo(f"{pictures} taught {when} moved to this bundle{lost}")


def _print_outcomes(outcomes: Sequence[DeployOutcome]) -> None:
    from edgetl.deployment import slowest

    print_table(["device", "runs", "sent kB", "seconds", "fault"], [_outcome_row(outcome) for outcome in outcomes])
    last = slowest(outcomes)
    if last is not None:
        running = sum(not o.fault for o in outcomes)
        echo(f"{running} of {len(outcomes)} devices run it; the slowest was {last.where}, {last.seconds:.1f} s")


def _outcome_row(outcome: DeployOutcome) -> list[str]:
    done = outcome.deployed
    if done is None:
        return [outcome.where, "", "", "", outcome.fault]
    return [outcome.where, done.installed.digest[:12], f"{done.sent_bytes / 1e3:,.0f}", f"{done.seconds:.1f}", ""]


@examples(
    "edgetl service pi@raspberrypi.local",
    "edgetl service pi@raspberrypi.local --run-options '--source /srv/photos --watch'",
)
@click.command()
@click.argument("where", metavar="[USER@]HOST[:PORT]|FOLDER/")
@click.option(
    "--run-options",
    metavar="OPTIONS",
    help='Options for edgetl run, e.g. "--source /srv/photos --watch".  [default: as before; at first --source camera '
    "--changes]",
)
@click.option("--remove", is_flag=True, help="Stop the service and remove it.")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def service(where: str, run_options: Optional[str], remove: bool, as_json: bool, **options: Any) -> None:
    """Run the bundle of a device as a systemd service.

    It runs from now on and after every start of the device. It restarts if it fails or hangs, and switches to bundles
    that are deployed later. If it does not start with a new bundle, or fails during the probation, the device returns
    to the previous one. For root it is a system service, otherwise a user service.
    """
    from edgetl.deployment import InstalledService
    from edgetl.deployment import service as change_service

    with reach(where, **options) as transport:
        done = change_service(transport, run_options, remove)
    if as_json:
        return print_json(done.to_dict())
    if isinstance(done, InstalledService):
        _print_service(done)
    else:
        echo(f"{where}: {done.name} {'was removed' if done.removed else 'was not installed'}")


def _print_service(done: InstalledService) -> None:
    echo(f"{done.where}: {done.name} is {done.state}: edgetl run {done.run_options}")
    if not done.starts_at_boot:
        echo("it ends with the user's last login; on the device: sudo loginctl enable-linger $USER")


@examples("edgetl logs pi@raspberrypi.local", "edgetl logs pi@raspberrypi.local --follow")
@click.command()
@click.argument("where", metavar="[USER@]HOST[:PORT]|FOLDER/")
@click.option(
    "--lines",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Number of lines, counted from the latest.",
)
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until Ctrl-C.")
@device_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of lines; with --follow, one per line."
)
def logs(where: str, lines: int, follow: bool, as_json: bool, **options: Any) -> None:
    """Print the log of a device's service, the latest line last."""
    from edgetl.deployment import logs as read_logs

    if follow:
        with GracefulStop(), reach(where, **options) as transport:
            for line in read_logs(transport, lines, follow=True):
                print_json({"where": where, "line": line}) if as_json else echo(line)
        return
    with reach(where, **options) as transport:
        found = list(read_logs(transport, lines))
    if as_json:
        return print_json({"where": where, "lines": found})
    for line in found:
        echo(line)


@examples("edgetl rollback pi@raspberrypi.local")
@click.command()
@click.argument("where", metavar="[USER@]HOST[:PORT]|FOLDER/")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
def rollback(where: str, as_json: bool, **options: Any) -> None:
    """Return a device to its previous bundle.

    What that bundle had been taught takes effect again, together with what was taught since.
    """
    from edgetl.deployment import rollback as roll_back

    with reach(where, **options) as transport:
        done = roll_back(transport)
    if as_json:
        return print_json({"where": where, **done.to_dict()})
    echo(f"{where}: back to {done.digest[:12]}: {done.bundle}")
    _print_carried(done, "since")
    if done.fault:
        echo(f"what was taught since stayed with the later bundle: {done.fault}", err=True)


@examples("edgetl pull pi@raspberrypi.local -o greenhouse.state")
@click.command()
@click.argument("where", metavar="[USER@]HOST[:PORT]|FOLDER/")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write to: a new state folder."
)
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
def pull(where: str, output: Path, as_json: bool, **options: Any) -> None:
    """Copy what a device was taught into a state folder here.

    edgetl merge accepts the folder.
    """
    from edgetl.deployment import pull as pull_state

    with reach(where, **options) as transport:
        done = pull_state(transport, output)
    if as_json:
        return print_json(done.to_dict())
    echo(f"{output}: {done.pictures} pictures, {done.thumbnails} with a thumbnail, from {where}")


@examples("edgetl devices pi@raspberrypi.local pi@orchard")
@click.command()
@click.argument("where", nargs=-1, required=True, metavar="[USER@]HOST[:PORT]|FOLDER/...")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def devices(where: Sequence[str], as_json: bool, **options: Any) -> None:
    """List devices: what they are and what they run.

    A device that does not answer is reported, and does not stop the others.
    """
    from edgetl.deployment import devices as list_devices

    found = list_devices(where, ask_password=password_prompt(), **options)
    if as_json:
        print_json([device.to_dict() for device in found])
    else:
        header = ["device", "runs", "digest", "target", "previous", "board", "interpreter", "fault"]
        print_table(header, [_row(device) for device in found])
    if any(device.fault for device in found):
        raise SystemExit(FAILED)


@examples("edgetl sign leaves.edgetl --key release")
@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", "name", required=True, help="Name of the key, or its file.")
@click.option(
    "--sequence",
    type=click.IntRange(min=0),
    help="Number of the signature; devices refuse a lower one than they run.  [default: seconds since 1970]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
def sign(bundle: Path, name: str, sequence: Optional[int], as_json: bool) -> None:
    """Sign BUNDLE, in place, for devices that trust the key."""
    from edgetl.deployment import sign as sign_bundle

    signed = sign_bundle(bundle, name, sequence)
    if as_json:
        return print_json({"bundle": str(bundle), "key": signed.key, "sequence": signed.sequence})
    echo(f"{bundle} was signed with key {signed.key} as number {signed.sequence}")


@examples("edgetl keys new release", "edgetl keys trust release pi@raspberrypi.local")
@click.command()
@click.argument("action", type=click.Choice(["new", "list", "trust"]))
@click.argument("name", required=False)
@click.argument("where", required=False, metavar="[[USER@]HOST[:PORT]|FOLDER/]")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON value instead of lines.")
def keys(action: str, name: Optional[str], where: Optional[str], as_json: bool, **options: Any) -> None:
    """Create and list signing keys, or let a device trust one.

    "new NAME" creates a key, "list" lists your keys, and "trust NAME HOST" lets a device trust a key. A device that
    trusts a key accepts only bundles that are signed with one of its trusted keys.
    """
    result = _KEY_ACTIONS[action](name, where, options)
    if as_json:
        return print_json(result)
    for entry in result if isinstance(result, list) else [result]:
        echo("  ".join(str(value) for value in entry.values()))


def _new_key(name: Optional[str], where: Optional[str], options: dict[str, Any]) -> dict[str, str]:
    from edgetl.deployment import new_key

    if name is None or where is not None:
        raise OptionError("edgetl keys new takes one name: edgetl keys new NAME")
    made = new_key(name)
    return {"key": made.key, "private": str(made.private), "public": str(made.public)}


def _list_keys(name: Optional[str], where: Optional[str], options: dict[str, Any]) -> list[dict[str, str]]:
    from edgetl.deployment import list_keys

    if name is not None:
        raise OptionError("edgetl keys list takes no name; leave it out")
    return [{"key": key.key, "name": key.name, "public": str(key.public)} for key in list_keys()]


def _trust_key(name: Optional[str], where: Optional[str], options: dict[str, Any]) -> dict[str, Any]:
    from edgetl.deployment import find_public_key, trust_key

    if name is None or where is None:
        raise OptionError("edgetl keys trust takes a key and a device: edgetl keys trust NAME HOST")
    path = find_public_key(name)
    with reach(where, **options) as transport:
        return {"where": where, "trusted_keys": list(trust_key(transport, path))}


_KEY_ACTIONS: dict[str, Callable[[Optional[str], Optional[str], dict[str, Any]], Any]] = {
    "new": _new_key,
    "list": _list_keys,
    "trust": _trust_key,
}


def _row(device: DeviceListing) -> list[str]:
    found = device.inventory
    if found is None:
        return [device.where, *[""] * 6, device.fault]
    running = found.running
    return [
        device.where,
        running.name if running else "nothing",
        running.digest[:12] if running else "",
        found.target,
        (found.previous or "")[:12],
        found.board,
        found.machine.interpreter or "none",
        running.fault if running else "",
    ]
