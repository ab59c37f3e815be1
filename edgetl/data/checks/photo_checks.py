"""Hides what makes photos, classes or splits doubtful, and what is left out for it; the loader calls it."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgetl.bundle import is_label
from edgetl.data.checks.duplicates import exact_groups, near_pairs, union
from edgetl.data.findings import Finding
from edgetl.data.listing import Photo
from edgetl.data.reading.photo_pass import Reading
from edgetl.errors import DataError

TINY_SIDE = 32
"""Photos with a side shorter than so many pixels show little to a backbone."""

IMBALANCE = 5
"""The largest class may have so many times the photos of the smallest before it is worth a word."""

FEW_PHOTOS = 10
"""A class with fewer photos than this is worth a word."""


@dataclass
class CheckResult:
    """What the checks found, and the rows (of the listing) that are left out, with the reason."""

    findings: list[Finding] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    groups: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """The group (n,) of each row; only rows in use ever share one."""


def check_photos(photos: Sequence[Photo], reading: Reading, zero_point: int, exclude_bad: bool) -> CheckResult:
    """Checks photos one by one and against each other; only `exclude_bad` leaves out what could be used."""
    checks = _PhotoChecks(photos, reading, exclude_bad)
    checks.check_faults()
    checks.check_each()
    checks.check_copies()
    checks.check_near_duplicates(zero_point)
    checks.check_leakage()
    return checks.result


def check_listed_classes(photos: Sequence[Photo], empty_labels: Sequence[str], source: object) -> list[Finding]:
    """What class names and counts tell before any photo is opened; raises DataError."""
    counts = Counter(photo.label for photo in photos)
    if len(counts) == 1 and len(inner := _folders_inside(photos)) > 1:
        (label,) = counts
        raise DataError(
            f"{source} holds one folder, '{label}'; if the folders inside ({', '.join(inner[:3])}, ...) "
            f"are the classes, name it: --data '{source}/{label}'"
        )
    _require_classes(counts, source)
    for label in counts:
        if not is_label(label):
            limits = "1 to 200 characters without control characters"
            raise DataError(f"{label[:60]!r} cannot be the name of a class; give one of {limits}")
    findings = [Finding("empty class", (), f"class '{label}' has no photos") for label in empty_labels]
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        spellings[unicodedata.normalize("NFKC", label).casefold()].append(label)
    for alike in spellings.values():
        if len(alike) > 1:
            names = ", ".join(f"'{label}'" for label in alike)
            findings.append(Finding("similar class names", (), f"{names} count as different classes; merge if not"))
    return findings


def require_usable_classes(
    photos: Sequence[Photo], rows: Sequence[int], digests: Sequence[bytes], findings: Sequence[Finding], source: object
) -> list[Finding]:
    """Findings for classes that lost all their photos; raises DataError where too little is left.

    `findings` are those that photos were left out for.
    """
    if not rows:
        first = findings[0]
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(finding.kind for finding in findings).items())
        raise DataError(f"no photo in {source} can be used: {kinds}; the first is {first.paths[0]}: {first.detail}")
    contents = {(photos[row].label, digests[row]) for row in rows}
    counts = Counter(label for label, _ in contents)
    _require_classes(counts, source)
    lost = sorted({photo.label for photo in photos} - counts.keys())
    return [Finding("empty class", (), f"class '{label}' has no photo that can be used") for label in lost]


def check_counts(counts: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """What the photos in use per class and split tell; raises DataError for a class without training."""
    findings = []
    totals = {label: sum(per_split.values()) for label, per_split in counts.items()}
    for label, per_split in counts.items():
        if not per_split["train"]:
            raise DataError(f"class '{label}' has no training photos; move some of its photos to train")
        if totals[label] < FEW_PHOTOS:
            findings.append(Finding("few photos", (), f"class '{label}' has {totals[label]} photos"))
        for split, purpose in (("val", "chosen by"), ("test", "measured on")):
            if not per_split[split]:
                findings.append(Finding("not measured", (), f"class '{label}' is not {purpose} any {split} photo"))
    smallest, largest = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[largest] >= IMBALANCE * totals[smallest]:
        detail = f"class '{largest}' has {totals[largest]} photos, '{smallest}' {totals[smallest]}"
        findings.append(Finding("class imbalance", (), detail))
    return findings


def _folders_inside(photos: Sequence[Photo]) -> list[str]:
    """The folders on the second level, where photos lie below them."""
    return sorted({photo.name.split("/")[1] for photo in photos if photo.name.count("/") > 1})


def _require_classes(counts: Mapping[str, int], source: object) -> None:
    if len(counts) == 1:
        raise DataError(f"{source} has one class only ('{next(iter(counts))}'); add a folder for each other class")
    for label in sorted(counts):
        if counts[label] == 1:
            raise DataError(f"class '{label}' in {source} has a single usable photo; add more or remove the class")


class _PhotoChecks:
    def __init__(self, photos: Sequence[Photo], reading: Reading, exclude_bad: bool) -> None:
        self.result = CheckResult(groups=np.arange(len(photos)))
        self._photos, self._reading, self._exclude_bad = photos, reading, exclude_bad

    def check_faults(self) -> None:
        for row, fault in sorted(self._reading.faults.items()):
            self._find(fault.kind, [row], fault.detail)
            self.result.left_out[row] = fault.kind

    def check_each(self) -> None:
        tiny, blank = [], []
        for row in self._in_use():
            traits = self._reading.traits[row]
            assert traits is not None
            if min(traits.width, traits.height) < TINY_SIDE:
                tiny.append(row)
            if traits.blank:
                blank.append(row)
        for kind, rows, detail in (
            ("tiny", tiny, f"photos with a side shorter than {TINY_SIDE} pixels: {len(tiny)}"),
            ("blank", blank, f"photos of a single colour: {len(blank)}"),
        ):
            if rows:
                self._find(kind, rows, detail)
                self._exclude(rows, kind)

    def check_copies(self) -> None:
        rows = self._in_use()
        for members in exact_groups([self._reading.digests[row] for row in rows]):
            copies = [rows[member] for member in members]
            labels = sorted({self._photos[row].label for row in copies})
            if len(labels) > 1:
                self._find("contradicting labels", copies, f"the same photo is in {_quoted(labels)}")
                self._exclude(copies, "contradicting labels")
            else:
                self._find("exact duplicates", copies, f"{len(copies)} copies of one photo in '{labels[0]}'")
                self._exclude(sorted(copies, key=self._held_back_first)[1:], "exact duplicates")

    def check_near_duplicates(self, zero_point: int) -> None:
        rows = self._in_use()
        copies = exact_groups([self._reading.digests[row] for row in rows])
        distinct = np.array(sorted(set(range(len(rows))) - {row for group in copies for row in group[1:]}), np.int64)
        pairs = distinct[self._near_pairs([rows[row] for row in distinct], zero_point)]
        local = union(len(rows), [*copies, *pairs.tolist()])
        self.result.groups[rows] = np.array(rows, np.int64)[local]
        near = set(local[pairs].ravel().tolist())
        for members in self._shared_groups(row for row, group in zip(rows, local) if group in near):
            labels = _quoted(sorted({self._photos[row].label for row in members}))
            self._find("near duplicates", members, f"{len(members)} photos in {labels} show nearly the same")

    def check_leakage(self) -> None:
        """Matters only where the owner of the photos has split them."""
        for members in self._shared_groups(self._in_use()):
            splits = sorted({self._photos[row].split or "" for row in members})
            if len(splits) < 2:
                continue
            self._find("leakage", members, f"nearly the same photo is in {' and '.join(splits)}")
            kept = min(members, key=self._held_back_first)
            self._exclude([row for row in members if self._photos[row].split != self._photos[kept].split], "leakage")

    def _near_pairs(self, rows: Sequence[int], zero_point: int) -> np.ndarray:
        from threadpoolctl import threadpool_limits  # of the host extra, which listing photos does without

        labels = np.array([self._photos[row].label for row in rows])
        if len(set(labels)) < 2:
            return np.empty((0, 2), np.int64)
        traits = [self._reading.traits[row] for row in rows]
        thumbnails = np.frombuffer(b"".join(one.thumbnail for one in traits if one), np.uint8).reshape(len(rows), -1)
        embeddings = self._reading.embeddings
        # OpenBLAS's threads spin as they wait for each other: two of them took twice the processor time of one
        with threadpool_limits(1, "blas"):
            return near_pairs(thumbnails, labels, None if embeddings is None else embeddings[rows], zero_point)

    def _shared_groups(self, rows: Iterable[int]) -> list[list[int]]:
        members: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            members[int(self.result.groups[row])].append(row)
        return [group for group in members.values() if len(group) > 1]

    def _in_use(self) -> list[int]:
        return [row for row in range(len(self._photos)) if row not in self.result.left_out]

    def _held_back_first(self, row: int) -> tuple[int, str]:
        """Of copies, the one that is farthest from training stays."""
        return ("test", "val", "train", None).index(self._photos[row].split), self._photos[row].name

    def _find(self, kind: str, rows: Sequence[int], detail: str) -> None:
        self.result.findings.append(Finding(kind, tuple(self._photos[row].path for row in rows), detail))

    def _exclude(self, rows: Iterable[int], reason: str) -> None:
        if self._exclude_bad:
            self.result.left_out.update(dict.fromkeys(rows, reason))


def _quoted(labels: Sequence[str]) -> str:
    return " and ".join(f"'{label}'" for label in labels)
