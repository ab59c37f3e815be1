"""What the checks found in a data set, as values that can be written as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that the user should know about the photos.

    The kinds are unreadable, truncated, tiny, blank, exact duplicates, near duplicates, contradicting labels,
    leakage, similar class names, class name not UTF-8, outside classes, empty class, few photos, class imbalance,
    not measured, value range, cache rebuilt and suspected label; for unlabelled and related photos also like a
    labelled photo and like another picture.
    """

    kind: str
    paths: tuple[Path, ...]
    """The photos concerned; empty if the finding is about a class."""
    detail: str
    """One line for people."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"kind": self.kind, "paths": [_printable(path) for path in self.paths], "detail": self.detail}


@dataclass(frozen=True)
class DatasetReport:
    """The photos of a data set, how they were split, and what the checks found; the checks change nothing on disk."""

    source: str
    """The folder or CSV file."""
    photos: int
    """Photos listed, usable or not."""
    counts: Mapping[str, Mapping[str, int]]
    """Photos in use: label -> split -> how many."""
    properties: Mapping[str, int]
    """How many photos were turned upright (`rotated`), are `grey`, or have an `alpha` channel."""
    ignored: Mapping[str, int]
    """How many files were ignored, by reason (e.g. `hidden or system file`, `.txt`)."""
    findings: tuple[Finding, ...]
    left_out: Mapping[Path, str]
    """Photos that are not used, each with the kind of finding that excluded it."""
    split: str
    """How the photos were split into train, val and test, in words."""
    embedded: int = field(default=0, compare=False)
    """How many embeddings this load computed; the others came from the cache."""

    @property
    def total(self) -> int:
        """Photos in use."""
        return sum(sum(per_split.values()) for per_split in self.counts.values())

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; the same photos and options give the same value."""
        return {
            "source": self.source,
            "photos": self.photos,
            "used": self.total,
            "counts": {label: dict(per_split) for label, per_split in self.counts.items()},
            "properties": dict(self.properties),
            "ignored": dict(self.ignored),
            "findings": [finding.to_json() for finding in self.findings],
            "left_out": {_printable(path): reason for path, reason in self.left_out.items()},
            "split": self.split,
        }


def _printable(path: Path) -> str:
    """A path as text that UTF-8 can encode; bytes that are not UTF-8 are written as e.g. "\\xe9"."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
