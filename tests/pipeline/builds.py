"""Scanned digits as photos, and one small build of them; the fixtures `all_digits`, `digits` and `built`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgetl.pipeline import BuildResult

CLASSES = ("0", "1", "7")
PHOTOS = 24
SIZE = 64


@dataclass(frozen=True)
class Built:
    """A finished build and the photos it came from."""

    photos: Path
    result: BuildResult


@pytest.fixture(scope="session")
def all_digits(tmp_path_factory) -> Path:
    """All scanned digits."""
    from edgetl.data import write_digits

    return write_digits(tmp_path_factory.mktemp("digits") / "all")


@pytest.fixture(scope="session")
def digits(all_digits, tmp_path_factory) -> Path:
    """Three classes of scanned digits: 24 training photos each, and all test photos."""
    folder = tmp_path_factory.mktemp("photos") / "digits"
    for label in CLASSES:
        copytree(all_digits / "test" / label, folder / "test" / label)
        (folder / "train" / label).mkdir(parents=True)
        for path in sorted((all_digits / "train" / label).iterdir())[:PHOTOS]:
            (folder / "train" / label / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def built(digits, tmp_path_factory) -> Built:
    """One small build for all tests of what a build gives: scanned digits, the default backbone at a small size."""
    from edgetl.pipeline import BuildOptions, build

    output = tmp_path_factory.mktemp("built")
    options = BuildOptions(fine_tune="off", input_size=SIZE)
    return Built(digits, build(digits, "rpi4", options, output=output))

