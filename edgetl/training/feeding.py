"""Hides that batches are made while the one before is trained on; `fine_tuning` calls it.

A plain thread, not tf.data: its generator data set tells the C library to hand freed memory back at once, for the
whole process, and the page faults then cost more than the reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Optional

import numpy as np

Batch = tuple[np.ndarray, ...]
_DEPTH = 2  # batches in memory beside the one in use


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches in the same order, drawn in a background thread; its errors are raised here."""
    with ThreadPoolExecutor(1, "edgetl-batches") as thread:
        waiting: deque[Future[Optional[Batch]]] = deque(thread.submit(next, batches, None) for _ in range(_DEPTH))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, batches, None))
            yield batch
