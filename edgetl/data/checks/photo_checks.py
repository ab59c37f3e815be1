"""Checks photos one by one and against each other: unreadable, tiny, blank, duplicated, leaked into another split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgetl.data.checks.duplicates import exact_groups, merge_groups, near_pairs
from edgetl.data.findings import Finding
from edgetl.data.listing import Photo
from edgetl.data.reading.photo_pass import ReadPhotos

TINY_SIDE = 32
"""Pixels. A photo with a shorter side shows too little to a backbone."""


@dataclass
class CheckedPhotos:
    """The result of the checks. Rows are indices into the listed photos."""

    findings: list[Finding] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    """The rows that are not used, each with the kind of finding that excluded it."""
    groups: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """The near-duplicate group of each row, (n,) int64; a row that is left out has a group of its own."""


def check_photos(photos: Sequence[Photo], read: ReadPhotos, zero_point: int, exclude_bad: bool) -> CheckedPhotos:
    """Checks all photos. Photos that cannot be read are left out; the other doubtful ones only with `exclude_bad`.

    `zero_point` is that of the raw embeddings in `read`.
    """
    checks = _PhotoChecks(photos, read, exclude_bad)
    checks.check_faults()
    checks.check_each()
    checks.check_copies()
    checks.check_near_duplicates(zero_point)
    checks.check_leakage()
    return checks.result


def near_duplicate_pairs(read: ReadPhotos, rows: Sequence[int], labels: Sequence[str], zero_point: int) -> np.ndarray:
    """Pairs (m, 2) of positions in `rows` that show nearly the same photo.

    `rows` have different contents; `labels` are the class names of the first of them, the others have none.
    """
    # threadpoolctl belongs to the host extra, which listing photos does not need
    from threadpoolctl import threadpool_limits

    traits = [read.traits[row] for row in rows]
    thumbnails = np.frombuffer(b"".join(one.thumbnail for one in traits if one), np.uint8).reshape(len(rows), -1)
    embeddings = None if read.embeddings is None else read.embeddings[rows]
    # OpenBLAS threads spin while they wait: two of them took twice the processor time of one
    with threadpool_limits(1, "blas"):
        return near_pairs(thumbnails, np.array(labels), embeddings, zero_point)


class _PhotoChecks:
    def __init__(self, photos: Sequence[Photo], read: ReadPhotos, exclude_bad: bool) -> None:
        self.result = CheckedPhotos(groups=np.arange(len(photos)))
        self._photos, self._read, self._exclude_bad = photos, read, exclude_bad

    def check_faults(self) -> None:
        for row, fault in sorted(self._read.faults.items()):
            self._report(fault.kind, [row], fault.detail)
            self.result.left_out[row] = fault.kind

    def check_each(self) -> None:
        tiny, blank = [], []
        for row in self._in_use():
            traits = self._read.traits[row]
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
                self._report(kind, rows, detail)
                self._exclude(rows, kind)

    def check_copies(self) -> None:
        rows = self._in_use()
        for members in exact_groups([self._read.digests[row] for row in rows]):
            copies = [rows[member] for member in members]
            labels = sorted({self._photos[row].label for row in copies})
            if len(labels) > 1:
                self._report("contradicting labels", copies, f"the same photo is in {_quoted(labels)}")
                self._exclude(copies, "contradicting labels")
            else:
                self._report("exact duplicates", copies, f"{len(copies)} copies of one photo in '{labels[0]}'")
                self._exclude(sorted(copies, key=self._held_back_first)[1:], "exact duplicates")

    def check_near_duplicates(self, zero_point: int) -> None:
        rows = self._in_use()
        copies = exact_groups([self._read.digests[row] for row in rows])
        repeated = {member for group in copies for member in group[1:]}
        distinct = np.array([member for member in range(len(rows)) if member not in repeated], np.int64)
        pairs = distinct[self._near_pairs([rows[member] for member in distinct], zero_point)]
        merged = merge_groups(len(rows), [*copies, *pairs.tolist()])
        self.result.groups[rows] = np.array(rows, np.int64)[merged]
        near = set(merged[pairs].ravel().tolist())
        for members in self._shared_groups(row for row, group in zip(rows, merged) if group in near):
            labels = _quoted(sorted({self._photos[row].label for row in members}))
            self._report("near duplicates", members, f"{len(members)} photos in {labels} are nearly identical")

    def check_leakage(self) -> None:
        """Near duplicates in different splits, which only occur if the source assigns the splits."""
        for members in self._shared_groups(self._in_use()):
            splits = sorted({self._photos[row].split or "" for row in members})
            if len(splits) < 2:
                continue
            self._report("leakage", members, f"nearly the same photo is in {' and '.join(splits)}")
            kept = min(members, key=self._held_back_first)
            self._exclude([row for row in members if self._photos[row].split != self._photos[kept].split], "leakage")

    def _near_pairs(self, rows: Sequence[int], zero_point: int) -> np.ndarray:
        labels = [self._photos[row].label for row in rows]
        if len(set(labels)) < 2:
            return np.empty((0, 2), np.int64)
        return near_duplicate_pairs(self._read, rows, labels, zero_point)

    def _shared_groups(self, rows: Iterable[int]) -> list[list[int]]:
        """The groups that contain two or more of these rows."""
        members: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            members[int(self.result.groups[row])].append(row)
        return [group for group in members.values() if len(group) > 1]

    def _in_use(self) -> list[int]:
        return [row for row in range(len(self._photos)) if row not in self.result.left_out]

    def _held_back_first(self, row: int) -> tuple[int, str]:
        """Sorts copies so that the one to keep comes first: a test photo before val, val before train."""
        return ("test", "val", "train", None).index(self._photos[row].split), self._photos[row].name

    def _report(self, kind: str, rows: Sequence[int], detail: str) -> None:
        self.result.findings.append(Finding(kind, tuple(self._photos[row].path for row in rows), detail))

    def _exclude(self, rows: Iterable[int], reason: str) -> None:
        if self._exclude_bad:
            self.result.left_out.update(dict.fromkeys(rows, reason))


def _quoted(labels: Sequence[str]) -> str:
    return " and ".join(f"'{label}'" for label in labels)
