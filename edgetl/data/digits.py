"""Writes scikit-learn's scanned digits as a folder of photos: the built-in data set.

1,797 digits of 8 x 8 pixels from the test part of "Optical Recognition of Handwritten Digits"
(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0), as scikit-learn ships them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from edgetl.errors import MissingExtraError

SIDE = 96
"""Width and height of the written images in pixels: 8 x 8 enlarged twelve times."""

TRAIN = 1437
"""The first 1,437 digits are for training, the last 360, by other writers, for testing."""


def write_digits(folder: Path) -> Path:
    """Writes the digits to `folder`/train and `folder`/test, a folder per class, and returns `folder`.

    An existing folder is complete, because it is moved into place as a whole; it is returned unchanged.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if folder.is_dir():
        return folder
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "host", "the built-in digits") from error
    digits = load_digits()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".digits-"))
    try:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target)):
            split = "train" if number < TRAIN else "test"
            path = temporary / split / str(label) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _enlarge(pixels).save(path)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _enlarge(pixels: np.ndarray) -> Image.Image:
    """A grey image of SIDE x SIDE pixels, dark on white, from an (8, 8) float array of 0..16."""
    grey = np.rint(255 - pixels * (255 / 16)).astype(np.uint8)
    return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
