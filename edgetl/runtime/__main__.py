"""The verbs of a device that has no more than the runtime: `python -m edgetl.runtime install FILE`.

A deployment calls the same ones over its transport. Each prints one JSON object with --json, else lines for people,
but for logs --follow; an expected error is one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

from edgetl.bundle import open_bundle
from edgetl.bundle.signing import distrust_key, trust_key, trusted_ids
from edgetl.errors import EdgetlError
from edgetl.runtime.device.current_bundle import bench_running, describe_learned, teach_running
from edgetl.runtime.device.health import check_running
from edgetl.runtime.device.installation import install, rollback
from edgetl.runtime.device.inventory import take_inventory
from edgetl.runtime.device.service import RUN_OPTIONS, follow_log, install_service, read_log, remove_service
from edgetl.runtime.device.settings import Settings, read_settings, write_settings
from edgetl.runtime.device.slots import Slots, default_root
from edgetl.runtime.device.snapshot import take_snapshot
from edgetl.runtime.inference.canaries import replay
from edgetl.runtime.system import native_stderr_silenced


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with native_stderr_silenced():
            told = options.verb(options)
    except EdgetlError as error:
        sys.stderr.write(f"edgetl: {' '.join(str(error).split())}\n")
        return error.exit_code
    if told is not None:
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n" if options.json else _lines(told))
    return 0


def _install(options: argparse.Namespace) -> Dict[str, Any]:
    return install(options.file, options.root, options.fresh, options.allow_downgrade, options.difference).to_dict()


def _prove(options: argparse.Namespace) -> Dict[str, Any]:
    return replay(open_bundle(options.file)).to_dict()


def _rollback(options: argparse.Namespace) -> Dict[str, Any]:
    return rollback(options.root).to_dict()


def _status(options: argparse.Namespace) -> Dict[str, Any]:
    return take_inventory(options.root)


def _learned(options: argparse.Namespace) -> Dict[str, Any]:
    return describe_learned(options.root)


def _teach(options: argparse.Namespace) -> Dict[str, Any]:
    return teach_running(options.root, options.file, options.label, options.guard, options.thumbnails, options.threads)


def _bench(options: argparse.Namespace) -> Dict[str, Any]:
    return bench_running(options.root, options.seconds, options.threads)


def _health(options: argparse.Namespace) -> Dict[str, Any]:
    check_running(Slots(options.root))
    return {"healthy": True}


def _snapshot(options: argparse.Namespace) -> Dict[str, Any]:
    return take_snapshot(options.root)


def _service(options: argparse.Namespace) -> Dict[str, Any]:
    if options.remove:
        return remove_service(options.root)
    return install_service(options.root, options.run_options, options.memory_bytes)


def _logs(options: argparse.Namespace) -> Optional[Dict[str, Any]]:
    if options.follow:
        follow_log(options.root, options.lines)
        return None
    return {"lines": read_log(options.root, options.lines)}


def _configure(options: argparse.Namespace) -> Dict[str, Any]:
    slots = Slots(options.root)
    with slots.locked():
        given = {name: value for name, value in vars(options).items() if name in _SETTINGS and value is not None}
        settings = replace(read_settings(slots.root), **given)
        if given:
            write_settings(slots.root, settings)
    return settings.to_dict()


def _trust(options: argparse.Namespace) -> Dict[str, Any]:
    slots = Slots(options.root)
    with slots.locked():
        if options.remove:
            distrust_key(options.remove, slots.keys)
        if options.file:
            trust_key(options.file, slots.keys)
    return {"trusted_keys": trusted_ids(slots.keys)}


_SETTINGS = tuple(Settings().to_dict())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edgetl.runtime", description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Any, text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text)
        command.set_defaults(verb=verb)
        command.add_argument("--root", type=Path, default=default_root(), help="folder of the device's bundles")
        command.add_argument("--json", action="store_true", help="print one JSON object")
        return command

    command = add("install", _install, "prove a bundle here, then run it in place of the one that runs")
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--fresh", action="store_true", help="leave what was taught with the bundle that runs now")
    command.add_argument("--allow-downgrade", action="store_true", help="take a bundle that is older than what runs")
    command.add_argument("--difference", type=Path, metavar="FILE", help="leads to statistics that FILE leaves out")
    command = add("prove", _prove, "replay a bundle's canaries here and change nothing")
    command.add_argument("file", type=Path, metavar="FILE")
    add("rollback", _rollback, "go back to the bundle that ran before")
    add("status", _status, "tell what runs, what is held, and what the machine is")
    add("learned", _learned, "tell what the bundle that runs knows, with what it was taught")
    command = add("teach", _teach, "teach the bundle that runs what the pictures of an archive show, and remove that")
    command.add_argument("file", type=Path, nargs="?", metavar="PICTURES.zip")
    command.add_argument("--label", required=True, help="the class, which may be a new one")
    command.add_argument("--guard", type=float, metavar="POINTS", help="refuse what costs the known classes more")
    command.add_argument("--thumbnails", action="store_true", help="keep small JPEGs too")
    command.add_argument("--threads", type=int, help="of the interpreter; at first: the cores")
    command = add("bench", _bench, "measure the bundle that runs; its service pauses meanwhile")
    command.add_argument("--seconds", type=float, default=10.0, help="for latencies and throughput together")
    command.add_argument("--threads", type=int, help="of the interpreter; at first: the cores")
    add("health", _health, "run the health check; on probation, a failure goes back to the bundle before")
    add("snapshot", _snapshot, "copy what was taught to what runs, to be fetched")
    command = add("service", _service, "run what is installed as a systemd service, from now on and after every start")
    command.add_argument("--run-options", metavar="OPTIONS", help=f"those of edgetl run; at first: {RUN_OPTIONS}")
    command.add_argument("--memory-bytes", type=int, help="of the board; the service may take half of it")
    command.add_argument("--remove", action="store_true", help="stop the service and remove it")
    command = add("logs", _logs, "tell what the service has said")
    command.add_argument("--lines", type=int, default=50, help="how many, the latest")
    command.add_argument("--follow", action="store_true", help="and those to come, as they are, until the input ends")
    command = add("configure", _configure, "set what the device is and how its health is checked, and tell it")
    command.add_argument("--target", help="what the device is: a name of edgetl targets")
    command.add_argument("--health-check", metavar="COMMAND", help="ends with 0 where $EDGETL_BUNDLE does its work")
    command.add_argument("--after-switch", metavar="COMMAND", help="run after every switch, to restart a service")
    command.add_argument("--command-seconds", type=float, help="how long these commands may take")
    command.add_argument("--probation-seconds", type=float, help="how long after a switch a failure goes back")
    command.add_argument("--slots", type=int, help="how many bundles are kept")
    command = add("trust", _trust, "take only bundles that are signed by a trusted key from now on; tell which are")
    command.add_argument("file", type=Path, nargs="?", metavar="NAME.pub")
    command.add_argument("--remove", metavar="ID", help="trust this key no longer")
    return parser


def _lines(told: Dict[str, Any]) -> str:
    return "".join(f"{name}: {_text(value)}\n" for name, value in told.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items() if name != "entries")
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
