"""Hides how commands of the user's are run for labels, beside the classification; `edgetl run` calls it."""

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

TIMEOUT_SECONDS = 30.0
"""After so long a command is killed."""

SOURCE_PLACEHOLDER = "{source}"


class Hooks:
    """Commands that are run when an image has their label; leaving the with block waits for those that run.

    `commands` are (label, command). A command is split as a shell would, but no shell runs it: nothing in a file's
    name or a label can become a command. "{source}" in it is the image's name; EDGETL_SOURCE, EDGETL_LABEL,
    EDGETL_PROBABILITY, EDGETL_NOVELTY (0..1) and EDGETL_IS_NOVEL (0 or 1) are in its environment; what it prints
    goes to standard error.

    Commands run beside the classification, each at most once at a time and for at most `timeout_s` seconds. While
    one runs, the next image of its label waits for it, or with `skip_while_busy` is passed over, as a camera wants.
    A command that fails, or takes too long, is told to `on_failure` as one line, from another thread.
    Raises OptionError where a command cannot be split, or is not there.
    """

    def __init__(
        self,
        commands: Sequence[Tuple[str, str]],
        on_failure: Callable[[str], object],
        skip_while_busy: bool = False,
        timeout_s: float = TIMEOUT_SECONDS,
    ) -> None:
        self._hooks = [_Hook(label, command, on_failure, timeout_s) for label, command in commands]
        self._waits = not skip_while_busy

    @property
    def labels(self) -> List[str]:
        """The labels that have a command."""
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

    def fire(self, source: str, prediction: Prediction) -> None:
        """Starts the commands of the image's label."""
        for hook in self._hooks:
            if hook.label == prediction.label:
                hook.fire(source, prediction, self._waits)


class _Hook:
    """One label's command, of which one at most is running; `_free` is held while it is."""

    def __init__(self, label: str, command: str, on_failure: Callable[[str], object], timeout_s: float) -> None:
        self.label = label
        self._command = _split(label, command)
        self._on_failure = on_failure
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
        """Kills the command and whatever it has started in its session."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _run(self, command: List[str], environment: Dict[str, str]) -> None:
        try:
            failure = self._failure(command, environment)
            if failure:
                self._on_failure(f"the command for '{self.label}' {failure}: {shlex.join(command)}")
        finally:
            self._free.release()

    def _failure(self, command: List[str], environment: Dict[str, str]) -> str:
        """Runs the command; what is wrong with how it ended, or nothing."""
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
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
        raise OptionError(f"the command for '{label}' cannot be read: {error}, in {command!r}") from error
    if not parts or shutil.which(parts[0]) is None:
        raise OptionError(f"there is no command {parts[0] if parts else command!r} to run for '{label}'; give its path")
    return parts


def _describe(source: str, prediction: Prediction) -> Dict[str, str]:
    return {
        "EDGETL_SOURCE": source,
        "EDGETL_LABEL": prediction.label,
        "EDGETL_PROBABILITY": f"{prediction.probability:.6f}",
        "EDGETL_NOVELTY": f"{prediction.novelty:.6f}",
        "EDGETL_IS_NOVEL": str(int(prediction.is_novel)),
    }
