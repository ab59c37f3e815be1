"""Estimates the memory that decoding a picture takes, from its header, and refuses what would not fit."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from PIL import Image

from edgetl.errors import ImageError
from edgetl.runtime.system import available_memory

UNCHECKED_BYTES = 32 * 1024 * 1024
"""Smaller needs are not checked: almost every picture, for reading the limits takes a fraction of a millisecond."""

USABLE_SHARE = 0.75
"""The share of the available memory that one picture may take; the rest is for the model and other programs."""


def require_memory(needed: int, name: str) -> None:
    """Raises ImageError if `needed` bytes for the picture `name` are more than may be used now."""
    if needed <= UNCHECKED_BYTES:
        return
    usable = usable_memory()
    if usable is not None and needed > usable:
        raise ImageError(
            f"cannot read {name}: decoding it takes about {needed / 2**20:,.0f} MiB, and {usable / 2**20:,.0f} MiB "
            "may be used here; scale it down first"
        )


def usable_memory() -> Optional[int]:
    """The bytes that one picture may take now; None if the system reports no limit."""
    available = available_memory()
    return None if available is None else int(available * USABLE_SHARE)


def decoding_bytes(image: Image.Image, full_size: Tuple[int, int]) -> int:
    """The peak memory in bytes of decoding an opened picture and converting it to upright RGB.

    Call it after `draft`, before `load`; `full_size` is the (width, height) before `draft`. It counts the picture in
    Pillow's memory, the RGB copy, the rotated copy, and what the decoder needs beside them.
    """
    per_pixel = 4 + _DECODER_BYTES_PER_PIXEL.get(str(image.format), 0)
    if image.mode != "RGB" or "transparency" in image.info:
        per_pixel += _BYTES_PER_PIXEL.get(image.mode, 4)
    if "exif" in image.info:  # it may say that the picture must be rotated
        per_pixel += 4
    return image.width * image.height * per_pixel + _coefficient_bytes(image, full_size)


_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Of Pillow's modes in memory; all others take 4."""

_DECODER_BYTES_PER_PIXEL = {"WEBP": 8, "AVIF": 12, "HEIF": 12, "JPEG2000": 20, "TIFF": 4}
"""Of decoders that hold the whole picture themselves, beside Pillow's copy; measured, rounded up."""


def _coefficient_bytes(image: Any, full_size: Tuple[int, int]) -> int:
    """A progressive JPEG's coefficients, 2 bytes each, are kept for the whole picture even if it is reduced."""
    if "progressive" not in image.info and "progression" not in image.info:
        return 0
    layers = [(layer[1], layer[2]) for layer in getattr(image, "layer", [])] or [(1, 1)] * 3
    largest = max(h for h, _ in layers) * max(v for _, v in layers)
    return int(2 * full_size[0] * full_size[1] * sum(h * v for h, v in layers) / max(1, largest))
