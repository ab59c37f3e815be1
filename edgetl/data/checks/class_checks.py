"""Checks the classes of a data set: their names, how many photos each has, and in which splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgetl.bundle import LABEL_LIMIT, distinguishable, is_label, look_alikes
from edgetl.data.findings import Finding
from edgetl.data.listing import Photo, classes_inside
from edgetl.errors import DataError

IMBALANCE = 5
"""A finding is reported if the largest class has this many times the photos of the smallest."""

FEW_PHOTOS = 10
"""A finding is reported for a class with fewer photos than this."""


def check_listed_classes(photos: Sequence[Photo], empty_labels: Sequence[str], source: Path) -> list[Finding]:
    """Findings about class names and empty classes, before any photo is opened.

    Raises:
        DataError: there is only one class, a class has a single photo, or a class name is not allowed.
    """
    counts = Counter(photo.label for photo in photos)
    if len(counts) == 1 and Path(source).is_dir():
        _refuse_wrapper(photos, source)
    if len(counts) > LABEL_LIMIT:
        raise DataError(f"{source} has {len(counts)} classes; at most {LABEL_LIMIT} are accepted")
    _require_classes(counts, source)
    for label in counts:
        if not is_label(label):
            raise DataError(
                f"{label[:60]!r} cannot be a class name; expected 1 to 200 characters without control characters"
            )
    empty = [Finding("empty class", (), f"class '{label}' has no photos") for label in empty_labels]
    return empty + _similar_names(counts)


def require_usable_classes(
    photos: Sequence[Photo], rows: Sequence[int], digests: Sequence[bytes], findings: Sequence[Finding], source: Path
) -> list[Finding]:
    """Findings for classes that have no usable photo.

    Args:
        rows: the photos in use, as indices into `photos` and `digests`.
        findings: why the other photos are not in use.

    Raises:
        DataError: no photo is usable, only one class is left, or a class has a single distinct photo.
    """
    if not rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(finding.kind for finding in findings).items())
        first = findings[0]
        raise DataError(f"no usable photo in {source}: {kinds}; the first is {first.paths[0]}: {first.detail}")
    contents = {(photos[row].label, digests[row]) for row in rows}
    counts = Counter(label for label, _ in contents)
    _require_classes(counts, source)
    lost = sorted({photo.label for photo in photos} - counts.keys())
    return [Finding("empty class", (), f"class '{label}' has no usable photo") for label in lost]


def check_counts(counts: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Findings about the photos in use, label -> split -> how many: few, uneven, or missing from a split.

    Raises:
        DataError: a class has no training photos.
    """
    findings = []
    totals = {label: sum(per_split.values()) for label, per_split in counts.items()}
    for label, per_split in counts.items():
        if not per_split["train"]:
            raise DataError(f"class '{label}' has no training photos; move some of its photos to train")
        if totals[label] < FEW_PHOTOS:
            findings.append(Finding("few photos", (), f"class '{label}' has {totals[label]} photos"))
        if not per_split["val"]:
            findings.append(Finding("not measured", (), f"class '{label}' has no val photo to choose a model by"))
        if not per_split["test"]:
            findings.append(Finding("not measured", (), f"class '{label}' has no test photo to measure accuracy on"))
    smallest, largest = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[largest] >= IMBALANCE * totals[smallest]:
        detail = f"class '{largest}' has {totals[largest]} photos, '{smallest}' {totals[smallest]}"
        findings.append(Finding("class imbalance", (), detail))
    return findings


def _similar_names(labels: Mapping[str, int]) -> list[Finding]:
    """Findings for class names that look the same, e.g. but for case, width, or characters that cannot be seen."""
    findings = []
    for similar in look_alikes(labels):
        names = ", ".join(map(distinguishable, similar))
        detail = f"{names} count as different classes; merge them if they are one"
        findings.append(Finding("similar class names", (), detail))
    return findings


def _refuse_wrapper(photos: Sequence[Photo], source: Path) -> None:
    """Refuses one folder around everything, and names the one to use."""
    found = classes_inside(source, [tuple(photo.name.split("/")) for photo in photos])
    if found:
        wrapper, inner = found
        shown = ", ".join(inner[:3])
        raise DataError(
            f"{source} contains one folder, '{wrapper}'; if the folders inside ({shown}, ...) "
            f"are the classes, use --data '{source}/{wrapper}'"
        )


def _require_classes(counts: Mapping[str, int], source: Path) -> None:
    if len(counts) == 1:
        raise DataError(f"{source} has only one class ('{next(iter(counts))}'); add a folder for each other class")
    for label in sorted(counts):
        if counts[label] == 1:
            raise DataError(f"class '{label}' in {source} has a single usable photo; add more or remove the class")
