"""Splits and folds are stratified, keep groups together, and depend only on contents and seed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgetl.data import DataOptions, Dataset
from edgetl.data.splitting import deal_folds, deal_splits
from edgetl.errors import OptionError
from tests.data.conftest import fill, save

Load = Callable[..., Dataset]
SHARES = {"test": 0.2, "val": 0.15}

photo_sets = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=1, max_size=60)
"""(label, group) of every photo."""


def digests(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


@given(photo_sets, st.integers(0, 3))
def test_groups_stay_together_and_every_class_has_training_photos(photos: list[tuple[str, int]], seed: int) -> None:
    labels, groups = zip(*photos)
    splits = deal_splits(labels, groups, digests(len(photos)), SHARES, seed)
    assert len(set(zip(groups, splits))) == len(set(groups))
    assert {label for label, split in zip(labels, splits) if split == "train"} == set(labels)


@given(photo_sets, st.randoms(), st.integers(0, 3))
def test_the_order_of_photos_does_not_matter(photos: list[tuple[str, int]], random: object, seed: int) -> None:
    labels, groups = zip(*photos)
    names = digests(len(photos))
    order = list(range(len(photos)))
    random.shuffle(order)  # type: ignore[attr-defined]

    def shuffled(values: object) -> list[object]:
        return [values[at] for at in order]  # type: ignore[index]

    splits = deal_splits(labels, groups, names, SHARES, seed)
    assert deal_splits(*map(shuffled, (labels, groups, names)), SHARES, seed) == shuffled(splits)
    folds = deal_folds(labels, groups, names, 4, seed)
    assert deal_folds(*map(shuffled, (labels, groups, names)), 4, seed).tolist() == shuffled(folds)


@given(st.integers(3, 200), st.integers(0, 5))
def test_photos_without_duplicates_are_split_by_the_shares(count: int, seed: int) -> None:
    splits = Counter(deal_splits(["a"] * count, range(count), digests(count), SHARES, seed))
    assert splits["test"] == max(1, round(0.2 * count))
    assert splits["val"] == max(1, round(0.15 * count))


@given(photo_sets, st.integers(2, 5))
def test_folds_keep_groups_together_and_leave_lone_groups_in_training(
    photos: list[tuple[str, int]], count: int
) -> None:
    labels, groups = zip(*photos)
    folds = deal_folds(labels, groups, digests(len(photos)), count, 0)
    assert len(set(zip(groups, folds))) == len(set(groups))
    assert ((folds >= -1) & (folds < count)).all()


def test_folds_are_even() -> None:
    labels = ["a"] * 50 + ["b"] * 23
    folds = deal_folds(labels, range(73), digests(73), 5, 0)
    assert np.bincount(folds[:50]).tolist() == [10] * 5
    assert np.ptp(np.bincount(folds[50:])) <= 1


def test_a_class_of_three_is_in_every_split_and_a_class_of_two_only_in_train(tmp_path: Path, load: Load) -> None:
    counts = load(fill(tmp_path / "p", {"three": 3, "two": 2})).report.counts
    assert counts["three"] == {"train": 1, "val": 1, "test": 1}
    assert counts["two"] == {"train": 2, "val": 0, "test": 0}


def test_near_duplicates_are_never_in_two_splits(photos: Path, load: Load) -> None:
    for number in range(10):
        original = Image.open(photos / "cat" / f"{number}.jpg")
        save(original, photos / "cat" / f"again {number}.jpg", quality=70)
    for seed in range(3):
        samples = load(photos, DataOptions(seed=seed)).samples
        assert len({(sample.group, sample.split) for sample in samples}) == 20


def test_the_split_depends_on_contents_not_paths(photos: Path, load: Load, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "copy"
    shutil.copytree(photos, elsewhere)
    for number, path in enumerate(sorted(elsewhere.glob("*/*.jpg"))):
        path.rename(path.with_name(f"renamed {-number}.jpg"))
    here, there = load(photos), load(elsewhere)
    assert here.digest == there.digest
    assert [(one.digest, one.label, one.split, one.group) for one in here.samples] == [
        (one.digest, one.label, one.split, one.group) for one in there.samples
    ]


def test_another_seed_gives_another_split(photos: Path, load: Load) -> None:
    assert load(photos).digest != load(photos, DataOptions(seed=1)).digest


@pytest.mark.parametrize("options", [{"test_fraction": 0.7}, {"validation_fraction": -1}, {"workers": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="must be"):
        DataOptions(**options)  # type: ignore[arg-type]
