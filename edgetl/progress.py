"""The callback through which long-running work reports its progress."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[str, int, int], None]
"""progress(step, done, total): the name of the current step, and how many of its `total` units are done."""
