"""Prints a JSON line for each event of a rollout; `edgetl deploy --inventory` reads them.

`state` is the task's variable `edgetl_state`. `fault` is the error of a failed task, and `code` the exit code of its
command. A task's variable `edgetl_reported` names a key of the JSON that its command prints; the event contains it too.
"""

from __future__ import annotations

import json
from typing import Any

from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: edgetl_events
type: stdout
short_description: JSON lines for edgetl
description: Prints a JSON line for each event of a rollout.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "edgetl_events"

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        variables = result.task.vars
        reported = _reported(result.result, variables.get("edgetl_reported"))
        self._print(result, state=variables.get("edgetl_state"), **reported)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._print(result, fault=_fault(result.result), code=result.result.get("rc"))

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        if not result.task.ignore_unreachable:  # otherwise a later task of the role decides whether it matters
            self._print(result, fault=_fault(result.result))

    def _print(self, result: CallbackTaskResult, **event: Any) -> None:
        self._display.display(json.dumps({"host": result.host.get_name(), "task": result.task.get_name(), **event}))


def _reported(result: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {} if name is None else {name: json.loads(result["stdout"])[name]}


def _fault(result: dict[str, Any]) -> str:
    """The error of the command, if there was one, else Ansible's message."""
    lines = str(result.get("stderr") or "").strip().splitlines() or str(result.get("msg", "")).strip().splitlines()
    return (lines or ["Ansible gave no reason"])[-1].removeprefix("edgetl: ")
