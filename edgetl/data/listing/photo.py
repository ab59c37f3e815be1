"""The photos of a source as they are listed: path, label and split, before any photo is opened."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgetl.data.findings import Finding
from edgetl.errors import DataError


@dataclass(frozen=True)
class Photo:
    """One listed photo."""

    path: Path
    name: str
    """The path relative to the source, with forward slashes: the same on every machine."""
    label: str
    """The class name; empty for a photo without a label."""
    split: Optional[str]
    """"train", "val" or "test" if the source assigns one, else None."""


@dataclass(frozen=True)
class Listing:
    """The photos of a source."""

    photos: tuple[Photo, ...]
    """Sorted by name."""
    empty_labels: tuple[str, ...]
    """Class folders without photos, sorted."""
    ignored: Mapping[str, int]
    """How many files were ignored, by reason. The reasons are keys of the JSON report."""
    findings: tuple[Finding, ...] = ()
    """What the user should know about the folders or the file."""


def normalized_label(name: str) -> str:
    """A class name in one Unicode form (NFC), because macOS stores accents decomposed.

    Bytes that are not UTF-8 become escapes (\\xea), so that different folders stay different classes.
    """
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace")).strip()


def suffix_of(name: str) -> str:
    """The suffix of a file name in lower case, with its dot; empty if there is none."""
    return os.path.splitext(name)[1].lower()


def listing_error(source: Path, error: OSError) -> DataError:
    """The DataError for a folder or file that the system refused to read."""
    return DataError(f"cannot list {error.filename or source}: {(error.strerror or str(error)).lower()}")
