"""Runs one verb on a device: `python -m edgetl.runtime install FILE`.

This is the protocol between a host and a device, which needs nothing but the runtime. With --json a verb prints one
JSON object, which includes the version of the protocol; without it, lines for people. `logs --follow` prints lines in
either case. Exit codes: 0; 2 with one line on standard error for an expected error; 64 for an unknown verb or option,
by which a host recognises an older device.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Optional, Protocol, Tuple

from edgetl.bundle import open_bundle
from edgetl.bundle.signing import trusted_ids
from edgetl.errors import EdgetlError
from edgetl.runtime import PROTOCOL
from edgetl.runtime.device.current_bundle import TeachingResult, bench_running, describe_learned, teach_running
from edgetl.runtime.device.health import check_running
from edgetl.runtime.device.installation import Installed, RolledBack, install, rollback
from edgetl.runtime.device.inventory import Inventory, take_inventory
from edgetl.runtime.device.service import RUN_OPTIONS, follow_log, install_service, read_log, remove_service
from edgetl.runtime.device.settings import Settings, read_settings, write_settings
from edgetl.runtime.device.slots import Slots, default_root
from edgetl.runtime.device.snapshot import Snapshot, take_snapshot
from edgetl.runtime.device.trust import add_trusted_key, check_requirement_can_end, remove_trusted_key
from edgetl.runtime.inference import Replay, replay
from edgetl.runtime.system import native_stderr_silenced, open_standard_streams
from edgetl.text import for_json, for_terminal, never_fail

USAGE_ERROR = 64
"""The exit code for an unknown verb or option: EX_USAGE of sysexits.h."""


class Answer(Protocol):
    """The result of a verb."""

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""


Verb = Callable[[argparse.Namespace], Optional[Answer]]


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one verb; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    open_standard_streams()
    never_fail(sys.stdout)
    never_fail(sys.stderr)
    options = _parse(words)
    verb: Verb = options.verb
    try:
        with native_stderr_silenced():
            answer = verb(options)
    except EdgetlError as error:
        _complain(str(error))
        return error.exit_code
    if answer is None:
        return 0
    return _print(_json_line(answer.to_dict()) if options.json else _lines(answer.to_dict()))


def _print(text: str) -> int:
    """Writes an answer to standard output; returns the exit code. A reader that has closed the pipe is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            _complain(f"the verb is done, but its answer cannot be written: {error.strerror or error}; free some space")
            return EdgetlError.exit_code
    return 0


def _complain(message: str) -> None:
    with suppress(OSError):  # where standard error is full or closed, only the exit code is left
        sys.stderr.write(f"edgetl: {for_terminal(' '.join(message.split()), sys.stderr.encoding)}\n")


@dataclass(frozen=True)
class Health:
    """The answer of a device whose health check passed."""

    healthy: bool = True

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Log:
    """Lines of the service's log, the oldest first."""

    lines: Tuple[str, ...]

    def to_dict(self) -> Dict[str, Any]:
        """The log as a JSON object."""
        return {"lines": list(self.lines)}


@dataclass(frozen=True)
class TrustedKeys:
    """The ids of the keys that the device trusts."""

    trusted_keys: Tuple[str, ...]

    def to_dict(self) -> Dict[str, Any]:
        """The ids as a JSON object."""
        return {"trusted_keys": list(self.trusted_keys)}


def _install(options: argparse.Namespace) -> Installed:
    return install(options.file, options.root, options.fresh, options.allow_downgrade, options.difference)


def _prove(options: argparse.Namespace) -> Replay:
    return replay(open_bundle(options.file), ignore_latency=options.ignore_latency)


def _rollback(options: argparse.Namespace) -> RolledBack:
    return rollback(options.root)


def _status(options: argparse.Namespace) -> Inventory:
    return take_inventory(options.root, options.verify)


def _learned(options: argparse.Namespace) -> Answer:
    return describe_learned(options.root)


def _teach(options: argparse.Namespace) -> TeachingResult:
    return teach_running(
        options.root,
        options.file,
        options.label,
        options.guard,
        options.thumbnails,
        options.threads,
        options.new_class,
    )


def _bench(options: argparse.Namespace) -> Answer:
    return bench_running(options.root, options.seconds, options.threads)


def _health(options: argparse.Namespace) -> Health:
    check_running(Slots(options.root))
    return Health()


def _snapshot(options: argparse.Namespace) -> Snapshot:
    return take_snapshot(options.root)


def _service(options: argparse.Namespace) -> Answer:
    if options.remove:
        return remove_service(options.root)
    return install_service(options.root, options.run_options, options.memory_bytes)


def _logs(options: argparse.Namespace) -> Optional[Log]:
    if options.follow:
        follow_log(options.root, options.lines)
        return None
    return Log(tuple(read_log(options.root, options.lines)))


def _configure(options: argparse.Namespace) -> Settings:
    slots = Slots(options.root)
    with slots.locked():
        changes = {name: value for name, value in vars(options).items() if name in _SETTINGS and value is not None}
        if "require_signatures" in changes:
            changes["require_signatures"] = changes["require_signatures"] == "yes"
            if not changes["require_signatures"]:
                check_requirement_can_end(slots)
        settings = replace(read_settings(slots.root), **changes)
        if changes:
            write_settings(slots.root, settings)
    return settings


def _trust(options: argparse.Namespace) -> TrustedKeys:
    slots = Slots(options.root)
    with slots.locked():
        if options.remove:
            remove_trusted_key(slots, options.remove)
        if options.file:
            add_trusted_key(slots, options.file)
    return TrustedKeys(tuple(trusted_ids(slots.keys)))


_SETTINGS = tuple(Settings().to_dict())


def _parse(words: List[str]) -> argparse.Namespace:
    """The options of a command line. An unknown verb or option exits with USAGE_ERROR, other faults with 2."""
    parser = argparse.ArgumentParser(prog="python -m edgetl.runtime", description=(__doc__ or "").partition("\n")[0])
    verbs = _add_verbs(parser)
    if words and not words[0].startswith("-") and words[0] not in verbs:
        choices = ", ".join(map(repr, verbs))
        _refuse(parser, words, f"argument VERB: invalid choice: {words[0]!r} (choose from {choices})")
    options, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(parser, words, f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _refuse(parser: argparse.ArgumentParser, words: List[str], message: str) -> NoReturn:
    """Exits with argparse's words for a fault, by which older hosts recognise it, and with JSON if that is wanted."""
    if "--json" in words:
        sys.stdout.write(_json_line({"error": "unknown verb or option"}))
    parser.print_usage(sys.stderr)
    parser.exit(USAGE_ERROR, f"{parser.prog}: error: {message}\n")


def _add_verbs(parser: argparse.ArgumentParser) -> List[str]:
    """Adds every verb with its options; returns the names of the verbs."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Verb, text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text)
        command.set_defaults(verb=verb)
        command.add_argument("--root", type=Path, default=default_root(), help="the folder of the device's bundles")
        command.add_argument("--json", action="store_true", help="print one JSON object")
        return command

    _add_bundle_verbs(add)
    _add_learning_verbs(add)
    _add_service_verbs(add)
    _add_settings_verbs(add)
    return list(verbs.choices)


_Add = Callable[[str, Verb, str], argparse.ArgumentParser]


def _add_bundle_verbs(add: _Add) -> None:
    command = add("install", _install, "prove a bundle on this device, then run it in place of the current one")
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--fresh", action="store_true", help="do not move what was taught to the new bundle")
    command.add_argument("--allow-downgrade", action="store_true", help="accept a bundle older than the running one")
    command.add_argument("--difference", type=Path, metavar="FILE", help="the statistics' difference, if left out")
    command = add("prove", _prove, "replay a bundle's canaries on this device; changes nothing")
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--ignore-latency", action="store_true", help="do not apply the bundle's time limit")
    add("rollback", _rollback, "return to the previous bundle")
    command = add("status", _status, "show what runs, what is stored, and what the machine is")
    command.add_argument("--verify", action="store_true", help="also verify each signature and replay each canary")


def _add_learning_verbs(add: _Add) -> None:
    add("learned", _learned, "show what the running bundle knows, including what it was taught")
    command = add("teach", _teach, "teach the running bundle the pictures of an archive, then remove the archive")
    command.add_argument("file", type=Path, nargs="?", metavar="PICTURES.zip")
    command.add_argument("--label", required=True, help="the class, which may be new")
    command.add_argument("--guard", type=float, metavar="POINTS", help="refuse if the known classes lose more accuracy")
    command.add_argument("--thumbnails", action="store_true", help="keep a small JPEG of each picture")
    command.add_argument("--new-class", action="store_true", help="even if the label looks like that of another class")
    command.add_argument("--threads", type=int, help="interpreter threads; default: the number of cores, at most 4")
    command = add("bench", _bench, "measure the running bundle while its service pauses")
    command.add_argument("--seconds", type=float, default=10.0, help="for latencies and throughput together")
    command.add_argument("--threads", type=int, help="interpreter threads; default: the number of cores, at most 4")
    add("snapshot", _snapshot, "copy what the running bundle was taught, for a host to fetch")


def _add_service_verbs(add: _Add) -> None:
    add("health", _health, "run the health check; a failure on probation returns to the previous bundle")
    command = add("service", _service, "run the current bundle as a systemd service, now and after every boot")
    command.add_argument("--run-options", metavar="OPTIONS", help=f"options of edgetl run; default: {RUN_OPTIONS}")
    command.add_argument("--memory-bytes", type=int, help="memory of the board; the service may use half of it")
    command.add_argument("--remove", action="store_true", help="stop the service and remove it")
    command = add("logs", _logs, "print the log of the service")
    command.add_argument("--lines", type=int, default=50, help="the number of latest lines")
    command.add_argument("--follow", action="store_true", help="also print new lines, until standard input ends")


def _add_settings_verbs(add: _Add) -> None:
    command = add("configure", _configure, "change the settings of the device, and print all of them")
    command.add_argument("--target", help="the target of the device, a name of edgetl targets")
    command.add_argument("--health-check", metavar="COMMAND", help="exits with 0 if the bundle in $EDGETL_BUNDLE works")
    command.add_argument("--after-switch", metavar="COMMAND", help="runs after every switch, to restart a service")
    command.add_argument("--command-seconds", type=float, help="time limit of these commands")
    command.add_argument("--probation-seconds", type=float, help="time after a switch in which a failure goes back")
    command.add_argument("--slots", type=int, help="the number of bundles to keep")
    command.add_argument("--require-signatures", choices=["yes", "no"], help="whether only signed bundles are accepted")
    command = add("trust", _trust, "add or remove a trusted key, and list them; then only signed bundles are accepted")
    command.add_argument("file", type=Path, nargs="?", metavar="NAME.pub")
    command.add_argument("--remove", metavar="ID", help="no longer trust this key")


def _json_line(values: Dict[str, Any]) -> str:
    return for_json({**values, "protocol": PROTOCOL}, sys.stdout.encoding) + "\n"


def _lines(values: Dict[str, Any]) -> str:
    return "".join(f"{name}: {for_terminal(_text(value))}\n" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items() if name != "entries")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
