"""What was found in the photos, as values; the loader fills them, reports and the command line show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about the photos: its kind, the photos it is about, and a line for people.

    Kinds: unreadable, truncated, tiny, blank, exact duplicates, near duplicates, contradicting labels,
    leakage, similar class names, empty class, few photos, class imbalance, not measured, cache rebuilt,
    suspected label; of further pictures also: like a labelled photo, like another picture.
    """

    kind: str
    paths: tuple[Path, ...]
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        return {"kind": self.kind, "paths": [_printable(path) for path in self.paths], "detail": self.detail}


@dataclass(frozen=True)
class DatasetReport:
    """Everything the checks found; nothing on disk was changed by them."""

    source: str
    """The folder or CSV file."""
    photos: int
    """Photos listed, usable or not."""
    counts: Mapping[str, Mapping[str, int]]
    """Photos in use: label -> split -> how many."""
    properties: Mapping[str, int]
    """How many photos were turned upright (`rotated`), are `grey`, or have transparency (`alpha`)."""
    ignored: Mapping[str, int]
    """Files that are no photos, by reason (`hidden`, `.txt`, ...)."""
    findings: tuple[Finding, ...]
    left_out: Mapping[Path, str]
    """Photos that are not in use, each with the reason."""
    split: str
    """How the photos came to be in train, val and test, in one sentence."""
    embedded: int = field(default=0, compare=False)
    """Embeddings computed by this load; the others came from the cache."""

    @property
    def total(self) -> int:
        """Photos in use."""
        return sum(sum(per_split.values()) for per_split in self.counts.values())

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON takes it; the same photos and options give the same value."""
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
    """A path as text; bytes of a file name that are not UTF-8 become question marks."""
    return str(path).encode("utf-8", "replace").decode("utf-8")
