"""Divides photos into splits and folds, stratified by class, without separating near duplicates.

The result depends only on the photos' contents and the seed: not on names, order, file system or platform.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

FEWEST_TO_SPLIT = 3
"""A class with this many groups of near duplicates is in every split; a class with fewer is only for training."""


def deal_splits(
    labels: Sequence[str],
    groups: Sequence[int],
    digests: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """The split of each photo: a name in `shares`, for about that share of each class, else "train".

    A group stays together, and every class keeps at least one photo in "train".

    Args:
        labels, groups, digests: the class, the near-duplicate group and the content digest of each photo.
        shares: split name -> share of each class, 0..1.
    """
    chosen = dict.fromkeys(groups, "train")
    for units in _units_by_label(labels, groups, digests, seed).values():
        chosen.update(_deal(units, {name: share for name, share in shares.items() if share > 0}))
    _give_every_class_training_photos(chosen, labels, groups)
    return [chosen[group] for group in groups]


def deal_folds(
    labels: Sequence[str], groups: Sequence[int], digests: Sequence[str], count: int, seed: int
) -> np.ndarray:
    """The fold of each photo, (n,) int64 of 0..count-1, classes spread evenly; a group stays together.

    Photos of a class with a single group get -1: if it is held out, the class cannot be learned.
    """
    chosen: dict[int, int] = {}
    totals = [0] * count
    for units in _units_by_label(labels, groups, digests, seed).values():
        filled = [0] * count
        for unit in sorted(units, key=lambda unit: -unit.size):
            fold = min(range(count), key=lambda fold: (filled[fold], totals[fold])) if len(units) > 1 else -1
            chosen[unit.group] = fold
            filled[fold] += unit.size
            totals[fold] += unit.size
    return np.array([chosen[group] for group in groups], np.int64)


class _Unit(NamedTuple):
    """A group of photos, which is divided no further."""

    order: bytes
    """Sorts the units at random, by seed and content."""
    group: int
    size: int


def _units_by_label(
    labels: Sequence[str], groups: Sequence[int], digests: Sequence[str], seed: int
) -> dict[str, list[_Unit]]:
    """The groups of each class, shuffled; a group with several classes belongs to the most frequent one."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    units: dict[str, list[_Unit]] = {label: [] for label in sorted(set(labels))}
    for group, rows in members.items():
        votes = Counter(labels[row] for row in rows)
        label = min(votes, key=lambda label: (-votes[label], label))
        order = hashlib.sha256(f"{seed} {min(digests[row] for row in rows)}".encode()).digest()
        units[label].append(_Unit(order, group, len(rows)))
    return {label: sorted(unsorted) for label, unsorted in units.items()}


def _deal(units: Sequence[_Unit], shares: Mapping[str, float]) -> dict[int, str]:
    """The split of the groups that leave "train".

    The largest group stays; then each split gets one group, and the rest go where most is missing.
    """
    if len(units) < FEWEST_TO_SPLIT:
        return {}
    total = sum(unit.size for unit in units)
    room = {name: max(1, round(total * share)) for name, share in shares.items()}
    wanted = dict(room)
    chosen: dict[int, str] = {}

    def assign(unit: _Unit, name: str) -> None:
        chosen[unit.group] = name
        room[name] -= unit.size
        remaining.remove(unit)

    remaining = list(units)
    remaining.remove(max(units, key=lambda unit: unit.size))
    for name in shares:
        fitting = [unit for unit in remaining if unit.size <= room[name]]
        assign(fitting[0] if fitting else min(remaining, key=lambda unit: unit.size), name)
    for unit in list(remaining):
        neediest = max(shares, key=lambda name: room[name] / wanted[name], default=None)
        if neediest is not None and unit.size <= room[neediest]:
            assign(unit, neediest)
    return chosen


def _give_every_class_training_photos(chosen: dict[int, str], labels: Sequence[str], groups: Sequence[int]) -> None:
    """Moves groups back to "train" for classes whose photos are all in groups that belong to other classes."""
    trained = {label for label, group in zip(labels, groups) if chosen[group] == "train"}
    for label, group in zip(labels, groups):
        if label not in trained:
            chosen[group] = "train"
            trained.update(_labels_of(group, labels, groups))


def _labels_of(group: int, labels: Sequence[str], groups: Sequence[int]) -> Iterable[str]:
    return (label for label, other in zip(labels, groups) if other == group)
