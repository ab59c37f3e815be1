"""Unlabelled and related photos are for training only, and never repeat the labelled photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.data import Dataset, JoinedFrames, ReadingOptions, embed_all, load_related, load_unlabelled
from edgetl.errors import DataError
from edgetl.runtime import Embedder
from tests.data.conftest import fill, save


@pytest.fixture
def labelled(photos: Path, load, embedder: Embedder) -> Dataset:
    return load(photos, embedder=embedder, keep_frames=True)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three photos in a folder and two in a subfolder."""
    return fill(tmp_path / "pictures", {".": 3, "monday": 2}, first_seed=500)


@pytest.fixture
def reading(tmp_path: Path) -> ReadingOptions:
    """The cache folder that `load` uses."""
    return ReadingOptions(cache=tmp_path / "cache")


def names(paths) -> set[str]:
    return {path.name for path in paths}


def test_pictures_in_any_folder_are_for_training_and_have_no_label(
    labelled, pictures, embedder, tmp_path, reading
) -> None:
    unlabelled = load_unlabelled(pictures, labelled, embedder, reading)
    assert len(unlabelled) == 5
    assert unlabelled.labels == ()
    assert {(sample.label, sample.split) for sample in unlabelled.samples} == {("", "train")}
    expected = [embedder.embed(unlabelled.frame(index)) for index in range(5)]
    np.testing.assert_array_equal(unlabelled.embeddings, expected)
    np.testing.assert_array_equal(embed_all(unlabelled, embedder, cache=tmp_path / "other"), expected)


def test_copies_of_labelled_photos_are_left_out(labelled, pictures, embedder, reading) -> None:
    held_out = labelled.samples[labelled.indices("test")[0]].path
    (pictures / "copy.jpg").write_bytes(held_out.read_bytes())
    save(Image.open(held_out).resize((100, 75)), pictures / "nearly.jpg", quality=60)
    unlabelled = load_unlabelled(pictures, labelled, embedder, reading)
    (finding,) = unlabelled.report.findings
    assert finding.kind == "like a labelled photo"
    assert names(finding.paths) == {"copy.jpg", "nearly.jpg"}
    assert len(unlabelled) == 5


def test_unusable_pictures_are_reported_and_copies_are_used_once(labelled, pictures, embedder, reading) -> None:
    (pictures / "again.jpg").write_bytes((pictures / "0.jpg").read_bytes())
    (pictures / "broken.jpg").write_bytes(b"no picture")
    save(Image.new("RGB", (80, 80), (9, 9, 9)), pictures / "dark.jpg")
    unlabelled = load_unlabelled(pictures, labelled, embedder, reading)
    found = {finding.kind: names(finding.paths) for finding in unlabelled.report.findings}
    assert found.pop("like another picture") < {"0.jpg", "again.jpg"}
    assert found == {"unreadable": {"broken.jpg"}, "blank": {"dark.jpg"}}
    assert (len(unlabelled), unlabelled.report.photos) == (5, 8)


def test_a_folder_without_a_usable_picture_is_refused(labelled, embedder, tmp_path, reading) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_unlabelled(tmp_path / "missing", labelled, embedder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in"):
        load_unlabelled(tmp_path / "empty", labelled, embedder)
    same = fill(tmp_path / "same", {"a": 2})
    with pytest.raises(DataError, match=r"no usable photo in .*: 2 like a labelled photo"):
        load_unlabelled(same, labelled, embedder, reading)


def test_related_photos_keep_their_own_classes(labelled, embedder, tmp_path, reading) -> None:
    source = fill(tmp_path / "related", {"fox": 3, "cow": 2}, first_seed=700)
    related = load_related(source, labelled, embedder, reading)
    assert related.labels == ("cow", "fox")
    assert related.labels_of(np.arange(5)) == ["cow", "cow", "fox", "fox", "fox"]


def test_joined_frames_follow_each_other(labelled, pictures, embedder, reading) -> None:
    unlabelled = load_unlabelled(pictures, labelled, embedder, reading)
    joined = JoinedFrames(labelled.frames, unlabelled.frames)
    expected = [unlabelled.frame(4), labelled.frame(0), unlabelled.frame(0), labelled.frame(19)]
    np.testing.assert_array_equal(joined.batch(np.array([24, 0, 20, 19])), expected)
