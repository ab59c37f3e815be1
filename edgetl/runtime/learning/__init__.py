"""Learning on the device: the learner, its journal, and the exchange of what was taught."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl.runtime.learning.classification import check_source, has_state, open_classifier, open_source, run
    from edgetl.runtime.learning.exchange import read_contribution
    from edgetl.runtime.learning.guard import Effect
    from edgetl.runtime.learning.journal import JOURNAL_FILE, Journal
    from edgetl.runtime.learning.learner import Learner
    from edgetl.runtime.learning.projection import SPANNED
    from edgetl.runtime.learning.results import HistoryEntry, Status, Step
    from edgetl.runtime.learning.state import state_folder

__all__ = [
    "JOURNAL_FILE",
    "SPANNED",
    "Effect",
    "HistoryEntry",
    "Journal",
    "Learner",
    "Status",
    "Step",
    "check_source",
    "has_state",
    "open_classifier",
    "open_source",
    "read_contribution",
    "run",
    "state_folder",
]

_HOMES = {
    "JOURNAL_FILE": "journal",
    "SPANNED": "projection",
    "Effect": "guard",
    "HistoryEntry": "results",
    "Journal": "journal",
    "Learner": "learner",
    "Status": "results",
    "Step": "results",
    "check_source": "classification",
    "has_state": "classification",
    "open_classifier": "classification",
    "open_source": "classification",
    "read_contribution": "exchange",
    "run": "classification",
    "state_folder": "state",
}

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
