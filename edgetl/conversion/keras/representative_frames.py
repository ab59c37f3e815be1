"""Frames made by recipe, to calibrate a pretrained backbone on when no photo is at hand; for `compiled`."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgetl.errors import MissingExtraError

RECIPE_VERSION = 1
"""Part of the compiled backbones' cache key: raise it with any change that changes the frames."""

RECIPE_IMAGES = 32


def recipe_frames(height: int, width: int, count: int = RECIPE_IMAGES, seed: int = 0) -> list[np.ndarray]:
    """`count` frames, uint8 (height, width, 3) RGB, the same ones for the same arguments.

    Most are crops of two real photos under many lights, because activations follow natural textures; every
    fourth is drawn (gradients, noise), for what photos on plain backgrounds have and these two have not.
    """
    photos = _sample_photos()
    frames = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        image = _drawn(rng, height, width) if index % 4 == 3 else _crop(rng, photos[index % 2], height, width)
        frames.append(_relit(rng, image))
    return frames


def _sample_photos() -> list[np.ndarray]:
    """scikit-learn's china.jpg and flower.jpg, uint8 (427, 640, 3), both CC BY."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "host", "calibrating a pretrained backbone") from error
    return list(load_sample_images().images)


def _crop(rng: np.random.Generator, photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """A random part of 15 to 100 percent of the photo's shorter side, mirrored half of the time."""
    rows, columns, _ = photo.shape
    side = int(min(rows, columns) * rng.uniform(0.15, 1.0))
    top, left = rng.integers(0, rows - side + 1), rng.integers(0, columns - side + 1)
    part = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return _resize(part, height, width)


def _drawn(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A coloured gradient with smooth noise of a random grain over it."""
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    grain = int(rng.integers(2, 65))
    noise = rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
    share = rng.uniform(0.0, 0.5)
    gradient = _resize(corners, height, width).astype(np.float32)
    return _to_pixels((1 - share) * gradient + share * _resize(noise, height, width))


def _relit(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Other contrast, brightness and white balance, as other cameras and lamps give them."""
    contrast, brightness = rng.uniform(0.5, 1.5), rng.uniform(-50, 50)
    balance = rng.uniform(0.8, 1.2, 3)
    return _to_pixels(((image.astype(np.float32) - 127.5) * contrast + 127.5 + brightness) * balance)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _to_pixels(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
