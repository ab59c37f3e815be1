"""Which value is white in grey photos of more than 8 bits is decided over the data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.conversion import BackboneSource
from edgetl.data import find_value_range
from edgetl.pipeline.preflight import fit_to_values
from edgetl.runtime import Preprocess
from tests.data.conftest import scene


def grey(seed: int, brightest: int, dtype: str = "uint16") -> Image.Image:
    """A grey scene whose values reach from 0 to the brightest."""
    values = np.asarray(scene(seed).convert("L")).astype(float)
    values = (values - values.min()) / (values.max() - values.min()) * brightest
    return Image.fromarray(values.astype(dtype))


def fill(root: Path, brightest: int, suffix: str = ".png", dtype: str = "uint16") -> list[Path]:
    paths = [root / label / f"{number}{suffix}" for label in ("fern", "moss") for number in range(4)]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        grey(seed, brightest, dtype).save(path)
    return paths


@pytest.mark.parametrize(
    ("brightest", "suffix", "dtype", "white"),
    [
        (255, ".png", "uint16", 255),
        (1000, ".png", "uint16", 1023),
        (4000, ".png", "uint16", 4095),
        (4000, ".tif", "uint16", 4095),
        (16000, ".png", "uint16", 16383),
        (65000, ".png", "uint16", 65535),
        (1, ".tif", "float32", 1),
        (200, ".tif", "float32", 255),
        (1000, ".tif", "float32", 1023),
        (1000, ".tif", "int32", 1023),
    ],
)
def test_white_is_the_largest_value_of_the_photos_bits(
    tmp_path: Path, brightest: int, suffix: str, dtype: str, white: int
) -> None:
    paths = fill(tmp_path, brightest, suffix, dtype)
    found = find_value_range(paths)
    assert found is not None
    assert (found.white_level, len(found.paths)) == (white, 8)
    frame = Preprocess(32, 32, white_level=found.white_level).frame(paths[0])
    assert frame.max() > 150, "the photo is not dark"


def test_a_broken_pixel_does_not_darken_an_8_bit_scene(tmp_path: Path) -> None:
    paths = fill(tmp_path, 255)
    values = np.asarray(Image.open(paths[0])).copy()
    values[5, 5] = 256
    Image.fromarray(values).save(paths[0])
    found = find_value_range(paths)
    assert found is not None
    assert found.white_level == 255
    assert np.abs(Preprocess(90, 120, white_level=255).frame(paths[0])[..., 0].astype(int) - values).max() <= 1


def test_all_photos_of_a_set_have_one_scale(tmp_path: Path) -> None:
    dim, bright = tmp_path / "dim.png", tmp_path / "bright.png"
    grey(0, 200).save(dim)
    grey(0, 800).save(bright)
    found = find_value_range([dim, bright])
    assert found is not None
    preprocess = Preprocess(32, 32, white_level=found.white_level)
    assert np.abs(preprocess.frame(bright).astype(int) - 4 * preprocess.frame(dim).astype(int)).max() <= 5


def test_photos_of_8_bits_have_no_range_and_are_not_decoded(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        scene(1).save(tmp_path / f"a{suffix}")
    (tmp_path / "text.jpg").write_text("no photo")
    os.mkfifo(tmp_path / "pipe.png")
    assert find_value_range(sorted(tmp_path.iterdir())) is None


def test_the_range_is_written_into_the_preprocessing_and_reported(tmp_path: Path) -> None:
    fill(tmp_path / "p", 1000)
    origin = BackboneSource({"name": "any"}, Preprocess(32, 32), lambda _: pytest.fail("nothing is compiled"))
    fitted, found = fit_to_values(origin, tmp_path / "p")
    assert found is not None
    assert fitted.preprocess == Preprocess(32, 32, white_level=1023)
    assert "so 1023 is shown as white" in found.finding().detail


def test_the_manifest_of_8_bit_photos_has_no_further_key(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    assert "white_level" not in Preprocess(32, 32).to_dict()
    for preprocess in (Preprocess(32, 32), Preprocess(32, 32, white_level=1023)):
        assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
