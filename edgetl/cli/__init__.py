"""The command line: each verb opens, calls the library function of the same name, and prints.

The module of a verb is loaded when the verb is called, so that a device does not load what only a host needs.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import warnings
from typing import Any, NoReturn, Optional

import click

from edgetl import __version__
from edgetl.cli.console import echo
from edgetl.errors import EdgetlError, MissingExtraError
from edgetl.runtime.system import native_stderr_silenced, open_standard_streams
from edgetl.text import never_fail

# Set before numpy is loaded. edgetl works on several pictures at a time; on busy cores, OpenBLAS's own threads spin
# while they wait for each other, and solving a last layer takes a second instead of fifty milliseconds.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, as in shells."""

SUMMARY_CHARACTERS = 67
"""Space for the summary of a verb on a terminal of 80 columns."""

_SECTIONS = {
    "Build": {
        "build": "build",
        "search": "search",
        "compile": "edgetpu",
        "export": "bundle_verbs",
        "sign": "deployment",
        "keys": "deployment",
    },
    "Run and learn": {
        "run": "device",
        "teach": "learning",
        "correct": "learning",
        "forget": "learning",
        "rename": "learning",
        "adapt": "learning",
        "merge": "learning",
        "undo": "learning",
        "reset": "learning",
    },
    "Devices": {
        "prepare": "deployment",
        "deploy": "deployment",
        "service": "deployment",
        "logs": "deployment",
        "rollback": "deployment",
        "pull": "deployment",
        "devices": "deployment",
        "trim": "deployment",
    },
    "Inspect": {
        "evaluate": "bundle_verbs",
        "bench": "device",
        "status": "learning",
        "history": "learning",
        "show": "bundle_verbs",
        "check": "edgetpu",
        "targets": "catalog",
        "backbones": "catalog",
        "doctor": "catalog",
    },
}
"""The verbs by section of the help, each with the module of this folder that it is loaded from."""

_MODULES = {verb: module for section in _SECTIONS.values() for verb, module in section.items()}


class _Verbs(click.Group):
    """A group whose commands are imported on first use, and listed by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"edgetl.cli.{_MODULES[cmd_name]}")
        commands = (value for value in vars(module).values() if isinstance(value, click.Command))
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _MODULES))
        for section, verbs in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(verb.ljust(width), self._short_help(ctx, verb)) for verb in verbs])

    def _short_help(self, ctx: click.Context, verb: str) -> str:
        command = self.get_command(ctx, verb)
        return command.get_short_help_str(limit=SUMMARY_CHARACTERS) if command else ""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader, for example `head`, has closed the pipe; click would exit with code 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message} Verbs: {', '.join(_MODULES)}", ctx) from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgetl")
def cli() -> None:
    """Turn a folder of photos into a model that runs, and keeps learning, on a Raspberry Pi or Coral board.

    Start with: edgetl build --data photos --target rpi4. The help of a verb shows its options and examples.
    """


def main(arguments: Optional[list[str]] = None) -> NoReturn:
    """Run the command line. An expected error becomes one line on stderr and an exit code."""
    open_standard_streams()
    never_fail(sys.stdout)
    never_fail(sys.stderr)
    if not sys.warnoptions:  # packages warn their programmers, not our users
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
        # Ctrl-C during exec() of a string, which every dataclass definition calls, makes CPython end by SIGINT in spite
        # of this handler (under python -m); another exec() clears that flag.
        exec("")
        _fail("interrupted; no half-written files are left, and the same command resumes from here", INTERRUPTED)
    except OSError as error:
        _fail_on_storage(error)


def _fail(message: str, exit_code: int) -> NoReturn:
    echo(f"edgetl: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


def _fail_on_missing(error: ModuleNotFoundError) -> NoReturn:
    """Report a package of the host that is missing here; a missing module of edgetl itself is a bug."""
    package = (error.name or "").split(".")[0]
    if package in ("", "edgetl"):
        raise error
    missing = MissingExtraError(package, "host", "this verb")
    _fail(f"{missing}, or see: edgetl doctor", missing.exit_code)


_STORAGE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is exceeded; free some space",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
}


def _fail_on_storage(error: OSError) -> NoReturn:
    """Report a storage error that the user can fix; any other OSError is a bug and shows its traceback."""
    if error.errno not in _STORAGE:
        raise error
    place = f" ({error.filename})" if error.filename else ""
    _fail(f"{_STORAGE[error.errno]}{place}, then run the same command again", 2)
