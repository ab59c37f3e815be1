"""A generated image and seeded weights, so that reference values need neither photos nor downloads."""

from __future__ import annotations

import numpy as np


def pattern(size: int) -> np.ndarray:
    """An image of waves with different directions and lengths, (size, size, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) / size
    red, green, blue = (
        np.sin(9 * x + 4 * y),
        np.sin(23 * x * y),
        np.cos(31 * (x - 0.4) ** 2 + 17 * (y - 0.6) ** 2),
    )
    return np.round(127.5 + 127.5 * np.stack([red, green, blue], -1)).astype(np.uint8)


def random_weights(model) -> list[np.ndarray]:
    """Weights that keep the signal in range at any depth, with all channels different."""
    random = np.random.default_rng(0)

    def values(variable) -> np.ndarray:
        shape = tuple(variable.shape)
        if len(shape) == 1:
            return random.uniform(0.5, 1.5, shape)
        fan_in = np.prod(shape[:2]) if "depthwise" in variable.name else np.prod(shape[:-1])
        return random.normal(0, np.sqrt(2 / fan_in), shape)

    return [values(variable).astype(np.float32) for variable in model.weights]
