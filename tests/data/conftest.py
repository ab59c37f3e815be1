"""Generated photos and a small embedder for the tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.data import Dataset, load_folder
from edgetl.runtime import Embedder, Preprocess
from tests.models import TINY_SIZE


def scene(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """A photo of soft coloured patches; each seed gives a clearly different one."""
    patches = np.random.default_rng(seed).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **{"quality": 90, **options} if path.suffix == ".jpg" else options)
    return path


def fill(root: Path, counts: dict[str, int], first_seed: int = 0) -> Path:
    """Fills the root with different photos: `counts` is the number of photos of each folder; returns the root."""
    seed = first_seed
    for folder, count in counts.items():
        for number in range(count):
            save(scene(seed), root / folder / f"{number}.jpg")
            seed += 1
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes with ten photos each."""
    return fill(tmp_path / "photos", {"cat": 10, "dog": 10})


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    """`load_folder` with a separate cache for each test."""

    def loader(source: Path, *arguments: object, **options: object) -> Dataset:
        return load_folder(source, *arguments, **{"cache": tmp_path / "cache", **options})  # type: ignore[arg-type]

    return loader


@pytest.fixture(scope="session")
def embedder(tiny_model: bytes) -> Embedder:
    return Embedder(tiny_model, Preprocess(*TINY_SIZE))


@pytest.fixture(scope="session")
def other_embedder(tiny_models: dict[str, bytes]) -> Embedder:
    return Embedder(tiny_models["float32"], Preprocess(*TINY_SIZE))
