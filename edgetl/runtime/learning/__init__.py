"""Learning on the device: the learner, its journal, and the exchange of what was taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.lazy import attribute_loader

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

_MODULES = {
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

if not TYPE_CHECKING:
    __getattr__ = attribute_loader(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
