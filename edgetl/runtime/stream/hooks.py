"""Runs the user's commands when an image has a certain label, in parallel to the classification."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Type

from edgetl.errors import OptionError
from edgetl.runtime.inference.classifier import Prediction
from edgetl.runtime.stream.repeated_lines import RepeatedLines
from edgetl.text import for_process

TIMEOUT_SECONDS = 30.0
"""Time limit of a command; then it is killed."""

SOURCE_PLACEHOLDER = "{source}"


class Hooks:
    """Commands that run when an image has their label; the end of the with block waits for running commands.

    `commands` are pairs (label, command). A command is split like a shell command, but no shell runs it: nothing in a
    file name or a label can become a command. "{source}" in it is replaced by the image's name. Its environment has
    EDGETL_SOURCE, EDGETL_LABEL, EDGETL_PROBABILITY, EDGETL_NOVELTY (0..1) and EDGETL_IS_NOVEL (0 or 1). Its output
    goes to standard error.

    Each command runs at most once at a time and for at most `timeout_s` seconds. While it runs, the next image of its
    label waits, or is skipped with `skip_while_busy`, which suits a camera. If a command fails or takes too long,
    `on_failure` is called with one line, from another thread; for the same failure once a minute, with a count.
    An image that is unlike every class runs no command, unless `on_novel`: the most probable class says nothing then.
    Raises OptionError if a command cannot be split or does not exist.
    """

    def __init__(
        self,
        commands: Sequence[Tuple[str, str]],
        on_failure: Callable[[str], object],
        skip_while_busy: bool = False,
        timeout_s: float = TIMEOUT_SECONDS,
        on_novel: bool = False,
    ) -> None:
        self._failures = RepeatedLines(on_failure)
        self._hooks = [_Hook(label, command, self._failures, timeout_s) for label, command in commands]
        self._on_novel = on_novel
        self._waits = not skip_while_busy

    @property
    def labels(self) -> List[str]:
        """The labels with a command."""
        return [hook.label for hook in self._hooks]

    def __enter__(self) -> Hooks:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        try:
            for hook in self._hooks:
                hook.wait()
        finally:
            for hook in self._hooks:
                hook.kill()
            self._failures.finish()

    def fire(self, source: str, prediction: Prediction) -> None:
        """Starts the commands of the image's label."""
        if prediction.is_novel and not self._on_novel:
            return
        for hook in self._hooks:
            if hook.label == prediction.label:
                hook.fire(source, prediction, self._waits)


class _Hook:
    """The command of one label; `_free` is locked while it runs, so that it runs at most once at a time."""

    def __init__(self, label: str, command: str, failures: RepeatedLines, timeout_s: float) -> None:
        self.label = label
        self._command = _split(label, command)
        self._failures = failures
        self._timeout_s = timeout_s
        self._free = threading.Lock()
        self._process: Optional[subprocess.Popen[bytes]] = None

    def fire(self, source: str, prediction: Prediction, waits: bool) -> None:
        if not self._free.acquire(blocking=waits):
            return
        # A file called -rf must not become an option.
        argument = f"./{source}" if source.startswith("-") else source
        command = [part.replace(SOURCE_PLACEHOLDER, argument) for part in self._command]
        environment = {**os.environ, **_describe(source, prediction)}
        threading.Thread(target=self._run, args=(command, environment), daemon=True).start()

    def wait(self) -> None:
        with self._free:
            pass

    def kill(self) -> None:
        """Kills the command and all processes in its session."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _run(self, command: List[str], environment: Dict[str, str]) -> None:
        try:
            failure = self._failure(command, environment)
            if failure:
                line = f"the command for '{self.label}' {failure}: {shlex.join(command)}"
                self._failures.add(line, kind=(self.label, failure))
        finally:
            self._free.release()

    def _failure(self, command: List[str], environment: Dict[str, str]) -> str:
        """Runs the command; returns why it failed, or an empty text."""
        try:
            self._process = subprocess.Popen(
                [for_process(part) for part in command],
                env={name: for_process(value) for name, value in environment.items()},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                stderr=sys.stderr,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"cannot be started ({error})"
        try:
            code = self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            return f"was killed after {self._timeout_s:g} seconds"
        return f"ended with code {code}" if code else ""


def _split(label: str, command: str) -> List[str]:
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise OptionError(f"invalid command {command!r} for '{label}': {error}; quote it as for a shell") from error
    if not parts or shutil.which(parts[0]) is None:
        raise OptionError(
            f"cannot find the command {parts[0] if parts else command!r} for '{label}'; give its full path"
        )
    return parts


def _describe(source: str, prediction: Prediction) -> Dict[str, str]:
    return {
        "EDGETL_SOURCE": source,
        "EDGETL_LABEL": prediction.label,
        "EDGETL_PROBABILITY": f"{prediction.probability:.6f}",
        "EDGETL_NOVELTY": f"{prediction.novelty:.6f}",
        "EDGETL_IS_NOVEL": str(int(prediction.is_novel)),
    }
