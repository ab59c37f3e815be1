"""The data set that needs no photos: scikit-learn's scanned digits, written out as an image folder.

1,797 digits of 8 x 8 pixels from the test part of "Optical Recognition of Handwritten Digits"
(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0), as scikit-learn ships them.
The build uses it when it is given no photos of one's own.
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
"""Pixels a side of the written images: 8 x 8 enlarged twelve times."""

TRAIN = 1437
"""The first 1,437 digits train and the last 360 test: the writers of the one are not those of the other."""


def write_digits(folder: Path) -> Path:
    """Write the digits under `folder`/train and `folder`/test, a folder per class; return `folder`.

    A folder that is already there is taken as it is: it is moved into place only when it is complete.

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
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".digits-"))
    try:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target)):
            split = "train" if number < TRAIN else "test"
            path = beside / split / str(label) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _enlarge(pixels).save(path)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _enlarge(pixels: np.ndarray) -> Image.Image:
    """A grey image of SIDE x SIDE from an (8, 8) float array of 0..16; dark ink on white paper."""
    grey = np.rint(255 - pixels * (255 / 16)).astype(np.uint8)
    return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
