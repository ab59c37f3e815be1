"""Prints one JSON line for each thing that a device of the rollout comes to; `edgetl deploy --inventory` reads them.

`state` is what the task says by its variable `edgetl_state`, `fault` why the device goes no further. A variable
`edgetl_told` names what the line holds of the JSON that the task's command prints.
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
description: One JSON line for each thing that a device of the rollout comes to.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "edgetl_events"

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        variables = result.task.vars
        self._tell(result, state=variables.get("edgetl_state"), **_answer(result.result, variables.get("edgetl_told")))

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._tell(result, fault=_fault(result.result))

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        if not result.task.ignore_unreachable:  # else the role tells by a later task whether that matters
            self._tell(result, fault=_fault(result.result))

    def _tell(self, result: CallbackTaskResult, **told: Any) -> None:
        self._display.display(json.dumps({"host": result.host.get_name(), "task": result.task.get_name(), **told}))


def _answer(result: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {} if name is None else {name: json.loads(result["stdout"])[name]}


def _fault(result: dict[str, Any]) -> str:
    """What the command said, if it was one; else what Ansible says."""
    said = str(result.get("stderr") or "").strip().splitlines() or str(result.get("msg", "")).strip().splitlines()
    return (said or ["Ansible gave no reason"])[-1].removeprefix("edgetl: ")
