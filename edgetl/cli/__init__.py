"""The command line: each verb opens, calls the library function of the same name, and prints.

Commands are loaded when they are called, so that a device never pays for what only a host has.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import sys
import warnings
from typing import Any, NoReturn, Optional

import click

from edgetl import __version__
from edgetl.errors import EdgetlError, MissingExtraError
from edgetl.runtime.system import native_stderr_silenced

# Before numpy loads. edgetl works on several pictures at a time; OpenBLAS's own threads, where the cores are busy with
# that, spin for each other: solving a last layer then takes a second instead of fifty milliseconds.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

_COMMANDS = {
    "build": "edgetl.cli.build",
    "search": "edgetl.cli.search",
    "evaluate": "edgetl.cli.bundle_verbs",
    "export": "edgetl.cli.bundle_verbs",
    "show": "edgetl.cli.bundle_verbs",
    "check": "edgetl.cli.edgetpu",
    "compile": "edgetl.cli.edgetpu",
    "targets": "edgetl.cli.catalog",
    "backbones": "edgetl.cli.catalog",
    "doctor": "edgetl.cli.catalog",
    "run": "edgetl.cli.device",
    "bench": "edgetl.cli.device",
    "teach": "edgetl.cli.learning",
    "correct": "edgetl.cli.learning",
    "forget": "edgetl.cli.learning",
    "rename": "edgetl.cli.learning",
    "adapt": "edgetl.cli.learning",
    "undo": "edgetl.cli.learning",
    "reset": "edgetl.cli.learning",
    "history": "edgetl.cli.learning",
    "status": "edgetl.cli.learning",
    "merge": "edgetl.cli.learning",
    "prepare": "edgetl.cli.deployment",
    "deploy": "edgetl.cli.deployment",
    "trim": "edgetl.cli.deployment",
    "rollback": "edgetl.cli.deployment",
    "pull": "edgetl.cli.deployment",
    "devices": "edgetl.cli.deployment",
    "service": "edgetl.cli.deployment",
    "logs": "edgetl.cli.deployment",
    "sign": "edgetl.cli.deployment",
    "keys": "edgetl.cli.deployment",
}


class _Verbs(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name])
        return next(
            value for value in vars(module).values() if isinstance(value, click.Command) and value.name == cmd_name
        )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads, `head` for one, has enough; click would end with code 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message} Verbs: {', '.join(_COMMANDS)}", ctx) from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgetl")
def cli() -> None:
    """From a folder of photos to a model on a Raspberry Pi or Coral board that keeps learning there."""


def main(arguments: Optional[list[str]] = None) -> NoReturn:
    """Run the command line; an expected error is one line on stderr and an exit code."""
    if not sys.warnoptions:  # what packages warn their programmers of is no news to the user
        warnings.simplefilter("ignore")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with native_stderr_silenced():
            cli.main(args=arguments, prog_name="edgetl", standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code if error.exit_code != 1 else 2)
    except EdgetlError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _fail_on_missing(error)
    except (KeyboardInterrupt, click.Abort):
        # Ctrl-C within an exec of text, which every dataclass's import runs, marks CPython to die by SIGINT after all
        # (under python -m); the next exec clears the mark.
        exec("")
        _fail("stopped; nothing half-written was left, and the same command goes on from here", INTERRUPTED)
    except OSError as error:
        _fail_on_storage(error)


def print_json(value: object) -> None:
    """Print one JSON value on a line of its own: what `--json` gives everywhere."""
    click.echo(json.dumps(value, ensure_ascii=False))


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"edgetl: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


def _fail_on_missing(error: ModuleNotFoundError) -> NoReturn:
    """A package of the workstation that a device has not; a missing module of our own is a bug."""
    package = (error.name or "").split(".")[0]
    if package in ("", "edgetl"):
        raise error
    missing = MissingExtraError(package, "host", "this verb")
    _fail(f"{missing}, or see: edgetl doctor", missing.exit_code)


_STORAGE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "no permission; choose another folder",
}


def _fail_on_storage(error: OSError) -> NoReturn:
    """A disk that refuses is the user's to mend; any other OSError is a bug and shows its traceback."""
    if error.errno not in _STORAGE:
        raise error
    place = f" at {error.filename}" if error.filename else ""
    _fail(f"{_STORAGE[error.errno]}{place}, then run the same command again", 2)
