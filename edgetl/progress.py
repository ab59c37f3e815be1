"""The callback through which long work reports how far it is."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[str, int, int], None]
"""progress(step, done, total): the name of the step, and how many of its `total` units are done."""
