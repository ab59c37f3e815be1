"""An image by formula, so that reference figures need no photo."""

from __future__ import annotations

import numpy as np


def pattern(size: int) -> np.ndarray:
    """Waves of several directions and lengths, (size, size, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) / size
    red, green, blue = (
        np.sin(9 * x + 4 * y),
        np.sin(23 * x * y),
        np.cos(31 * (x - 0.4) ** 2 + 17 * (y - 0.6) ** 2),
    )
    return np.round(127.5 + 127.5 * np.stack([red, green, blue], -1)).astype(np.uint8)
