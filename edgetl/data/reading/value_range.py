"""Decides which value is white in photos of more than 8 bits: a property of the data set, not of each photo."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image

from edgetl.data.findings import Finding
from edgetl.data.reading.regular_file import read_prefix

WHITE_LEVELS = (1, 255, 1023, 4095, 16383, 65535)
"""The largest values of floats from 0 to 1, and of integers of 8, 10, 12, 14 and 16 bits."""

BRIGHTEST_SHARE = 0.001
"""This share of a photo's pixels may be brighter than white: a broken pixel does not darken a data set."""

PHOTOS_MEASURED = 500
"""The values of at most this many photos are measured, evenly spread."""


@dataclass(frozen=True)
class ValueRange:
    """The values of the grey photos of more than 8 bits in a data set."""

    paths: tuple[Path, ...]
    """The photos of more than 8 bits."""
    brightest: float
    """The largest value, without broken pixels."""
    white_level: int
    """The value that is shown as white."""

    def finding(self) -> Finding:
        """What the user should know about it."""
        detail = (
            f"{len(self.paths)} grey photos have more than 8 bits and values up to {self.brightest:g}, "
            f"so {self.white_level} is shown as white, here and on the device"
        )
        return Finding("value range", self.paths, detail)


def find_value_range(paths: Sequence[Path]) -> Optional[ValueRange]:
    """The range of the grey photos of more than 8 bits; None if there are none. Only these are decoded."""
    deep = [path for path in paths if _has_many_bits(path)]
    chosen = deep[:: max(1, -(-len(deep) // PHOTOS_MEASURED))]
    measured = [(value, is_float) for value, is_float in _brightest_values(chosen)]
    if not measured:
        return None
    brightest = max(value for value, _ in measured)
    levels = WHITE_LEVELS if all(is_float for _, is_float in measured) else WHITE_LEVELS[1:]
    white_level = next((level for level in levels if level >= brightest), WHITE_LEVELS[-1])
    return ValueRange(tuple(deep), brightest, white_level)


def _has_many_bits(path: Path) -> bool:
    """Whether a photo is grey with more than 8 bits, by its header; False for one that cannot be read."""
    head = read_prefix(path, 26)
    if not head or head.startswith(b"\xff\xd8\xff"):  # a pipe, or a JPEG, which has 8 bits
        return False
    if head.startswith(b"\x89PNG"):
        return head[24:26] == b"\x10\0"
    with contextlib.suppress(Exception), Image.open(path) as image:
        return image.mode[0] in "IF"
    return False


def _brightest_values(paths: Sequence[Path]) -> Iterator[tuple[float, bool]]:
    """For each photo that can be read, its largest value without broken pixels, and whether it has floats."""
    for path in paths:
        with contextlib.suppress(Exception), Image.open(path) as image:
            values = np.nan_to_num(np.asarray(image)).ravel()
            yield float(np.quantile(values, 1 - BRIGHTEST_SHARE, method="lower")), values.dtype.kind == "f"
