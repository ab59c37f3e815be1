"""Hides where a bundle's state lies and how it is read and appended to; all that a Learner is made of shares one."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

from edgetl.bundle import MODEL, Bundle
from edgetl.runtime.learning.exchange import shipped_origins
from edgetl.runtime.learning.journal import Draft, Journal
from edgetl.runtime.learning.live_statistics import Knowledge
from edgetl.runtime.learning.projection import Contents

Drafting = Callable[[Contents], Sequence[Draft]]
"""Makes the rows of a step from what is in effect; raises LearningError where the step cannot be done."""


class State:
    """The journal of a bundle, what of it is in effect, and what is known from that.

    Whoever uses `contents` or `knowledge` holds `lock`; `append` takes it itself.
    Raises LearningError where the state belongs to another bundle, StorageError.
    """

    def __init__(self, bundle: Bundle, folder: Optional[Union[str, os.PathLike[str]]] = None) -> None:
        self.bundle = bundle
        self.identity = identity_of(bundle)
        self.journal = Journal(state_folder(bundle.path) if folder is None else folder, self.identity)
        self.knowledge = Knowledge(bundle, self.journal.embeddings)
        self.lock = threading.RLock()
        self.own_position = -1
        """The id of the last row that was written here, not by another process."""
        self.last_read = Contents(bundle.manifest.labels, origins=shipped_origins(bundle))
        """What was in effect when it was last read."""

    def contents(self) -> Contents:
        """What is in effect, with what other processes have written."""
        with self.lock:
            self.last_read.extend(self.journal.rows_after(self.last_read.position))
            return self.last_read

    def append(self, drafting: Drafting) -> Tuple[Sequence[Draft], List[int]]:
        """Appends one step with all other writers excluded; returns its drafts and their ids."""
        with self.lock:
            if not self.contents().rows:
                drafting(self.last_read)  # what cannot be done must not make a state
            with self.journal.writing():
                drafts = drafting(self.contents())
                ids = self.journal.append(drafts)
            self.own_position = ids[-1]
            return drafts, ids


def state_folder(bundle: Union[str, os.PathLike[str]]) -> Path:
    """Where a bundle's state lies unless another folder is given: NAME.state beside NAME.edgetl."""
    return Path(bundle).with_suffix(".state")


def identity_of(bundle: Bundle) -> Dict[str, str]:
    """What a state of this bundle is known by: its content, its model, its name and its classes."""
    return {
        "bundle": bundle.digest,
        "model": hashlib.sha256(bundle.read(MODEL)).hexdigest(),
        "name": bundle.manifest.name,
        "labels": json.dumps(bundle.manifest.labels, ensure_ascii=False),
    }
