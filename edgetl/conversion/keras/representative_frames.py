"""Generates frames to calibrate a pretrained backbone on when there are no photos yet."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgetl.errors import MissingExtraError

RECIPE_VERSION = 1
"""Part of the cache key of compiled backbones. Increase it with any change that changes the frames."""

RECIPE_IMAGES = 32


def recipe_frames(height: int, width: int, count: int = RECIPE_IMAGES, seed: int = 0) -> list[np.ndarray]:
    """`count` frames, uint8 (height, width, 3) RGB, the same for the same arguments.

    Most are crops of two real photos with varied lighting, because activations depend on natural textures. Every
    fourth is synthetic (a gradient with noise), to cover the plain backgrounds that the two photos do not have.

    Raises:
        MissingExtraError: scikit-learn, which includes the two photos, is not installed.
    """
    photos = _sample_photos()
    frames = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        image = _synthetic(rng, height, width) if index % 4 == 3 else _crop(rng, photos[index % 2], height, width)
        frames.append(_vary_lighting(rng, image))
    return frames


def _sample_photos() -> list[np.ndarray]:
    """china.jpg and flower.jpg of scikit-learn, uint8 (427, 640, 3), both CC BY."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "host", "calibrating a pretrained backbone") from error
    return list(load_sample_images().images)


def _crop(rng: np.random.Generator, photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """A random square of 15 to 100 percent of the photo's shorter side, mirrored with probability one half."""
    rows, columns, _ = photo.shape
    side = int(min(rows, columns) * rng.uniform(0.15, 1.0))
    top, left = rng.integers(0, rows - side + 1), rng.integers(0, columns - side + 1)
    part = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return _resize(part, height, width)


def _synthetic(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A colour gradient blended with smooth noise of random grain."""
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    grain = int(rng.integers(2, 65))
    noise = rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
    share = rng.uniform(0.0, 0.5)
    gradient = _resize(corners, height, width).astype(np.float32)
    return _to_pixels((1 - share) * gradient + share * _resize(noise, height, width))


def _vary_lighting(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Random contrast, brightness and white balance, as from different cameras and lamps."""
    contrast, brightness = rng.uniform(0.5, 1.5), rng.uniform(-50, 50)
    balance = rng.uniform(0.8, 1.2, 3)
    return _to_pixels(((image.astype(np.float32) - 127.5) * contrast + 127.5 + brightness) * balance)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _to_pixels(image: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return pixels
