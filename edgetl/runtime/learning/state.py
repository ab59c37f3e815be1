"""The state of a bundle on a device: its journal, what of the journal is in effect, and the resulting statistics."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from edgetl.bundle import MODEL, Bundle
from edgetl.runtime.learning.exchange import shipped_origins
from edgetl.runtime.learning.journal import Draft, Journal
from edgetl.runtime.learning.live_statistics import LiveStatistics
from edgetl.runtime.learning.projection import Projection

MakeDrafts = Callable[[Projection], Sequence[Draft]]
"""Drafts the rows of a step from what is in effect. Raises LearningError if the step is impossible."""


class State:
    """The journal of a bundle, with its projection and statistics; shared by the parts of a Learner.

    Hold `lock` while using `projection()`, `last_read` or `live_statistics`; `append` acquires it itself.

    Raises:
        LearningError: the state belongs to another bundle.
        StorageError: the journal cannot be written, or is damaged.
    """

    def __init__(self, bundle: Bundle, folder: Optional[Union[str, os.PathLike[str]]] = None) -> None:
        self.bundle = bundle
        self.identity = identity_of(bundle)
        embedding = bundle.manifest.embedding
        embedding_bytes = embedding["size"] * np.dtype(embedding["dtype"]).itemsize
        folder = state_folder(bundle.path) if folder is None else folder
        self.journal = Journal(folder, self.identity, embedding_bytes)
        self.live_statistics = LiveStatistics(bundle, self.journal.embeddings)
        self.lock = threading.RLock()
        self.own_position = -1
        """The id of the last row that this process wrote."""
        self.last_read = Projection(bundle.manifest.labels, origins=shipped_origins(bundle))
        """The projection when the journal was last read."""

    def projection(self) -> Projection:
        """What is in effect now, including what other processes have written."""
        with self.lock:
            self.last_read.extend(self.journal.rows_after(self.last_read.position))
            return self.last_read

    def append(self, make_drafts: MakeDrafts) -> Tuple[Sequence[Draft], List[int]]:
        """Append one step while all other writers are excluded; return its drafts and the ids of their rows."""
        with self.lock:
            if not self.projection().rows:
                make_drafts(self.last_read)  # a step that is impossible must not create a state
            with self.journal.writing():
                drafts = make_drafts(self.projection())
                ids = self.journal.append(drafts)
            self.own_position = ids[-1]
            return drafts, ids


def state_folder(bundle: Union[str, os.PathLike[str]]) -> Path:
    """The default folder of a bundle's state: NAME.state beside NAME.edgetl."""
    return Path(bundle).with_suffix(".state")


def identity_of(bundle: Bundle) -> Dict[str, str]:
    """What ties a state to this bundle: digests of its contents and its model, its name and its classes."""
    return {
        "bundle": bundle.digest,
        "model": hashlib.sha256(bundle.read(MODEL)).hexdigest(),
        "name": bundle.manifest.name,
        "labels": json.dumps(bundle.manifest.labels, ensure_ascii=False),
    }
