"""Folders and CSV files become photos with labels and splits, or one clear error."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetl.data import Dataset
from edgetl.errors import DataError
from tests.data.conftest import fill, save, scene

Load = Callable[..., Dataset]


def test_the_folders_are_the_classes(photos: Path, load: Load) -> None:
    dataset = load(photos)
    assert dataset.labels == ("cat", "dog")
    assert all(sample.path.parent.name == sample.label for sample in dataset.samples)


def test_split_folders_above_the_classes_are_kept(tmp_path: Path, load: Load) -> None:
    root = fill(tmp_path / "p", {f"{split}/{label}": 4 for split in ("train", "valid", "Test") for label in "ab"})
    dataset = load(root)
    assert dataset.report.split == "train, val and test as given"
    assert dataset.report.counts["a"] == {"train": 4, "val": 4, "test": 4}


def test_validation_comes_from_train_if_only_train_and_test_are_given(tmp_path: Path, load: Load) -> None:
    dataset = load(fill(tmp_path / "p", {"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3}))
    assert dataset.report.counts["a"] == {"train": 8, "val": 2, "test": 3}


def test_a_given_validation_split_without_test_serves_as_test(tmp_path: Path, load: Load) -> None:
    dataset = load(fill(tmp_path / "p", {"train/a": 10, "train/b": 10, "val/a": 3, "val/b": 3}))
    held_back = {sample.path.parts[-3] for sample in dataset.samples if sample.split == "test"}
    assert held_back == {"val"}
    assert "serves as test" in dataset.report.split


def test_a_class_may_be_called_train(tmp_path: Path, load: Load) -> None:
    assert load(fill(tmp_path / "p", {"train": 4, "bus": 4})).labels == ("bus", "train")


def test_photos_in_folders_inside_a_class_folder_belong_to_the_class(tmp_path: Path, load: Load) -> None:
    dataset = load(fill(tmp_path / "p", {"a/monday": 3, "a/tuesday": 3, "b": 4}))
    assert dataset.report.total == 10
    assert dataset.labels == ("a", "b")


def test_other_files_are_ignored_and_counted(photos: Path, load: Load) -> None:
    for name in ("cat/.hidden.jpg", "cat/Thumbs.db", "dog/notes.txt", "__MACOSX/cat/0.jpg", ".git/x/0.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"x")
    os.mkfifo(photos / "dog" / "pipe.jpg")
    save(scene(99), photos / "loose.jpg")
    report = load(photos).report
    assert report.photos == report.total == 20
    assert report.ignored == {
        ".txt": 1,
        "beside the class folders": 1,
        "broken link or no regular file": 1,
        "hidden or system file": 4,
    }


def test_circular_links_are_followed_once(photos: Path, load: Load) -> None:
    (photos / "cat" / "again").symlink_to(photos, target_is_directory=True)
    assert load(photos).report.total == 20


def test_class_names_in_any_script_are_normalized(tmp_path: Path, load: Load) -> None:
    decomposed = unicodedata.normalize("NFD", "Äpfel")
    dataset = load(fill(tmp_path / "p", {decomposed: 3, "Äpfel": 3, "梨": 3}))
    assert dataset.labels == (unicodedata.normalize("NFC", "Äpfel"), "梨")


def test_class_names_that_differ_only_in_case_are_reported(tmp_path: Path, load: Load) -> None:
    findings = load(fill(tmp_path / "p", {"Cat": 3, "cat": 3})).report.of_kind("similar class names")
    assert "'Cat', 'cat'" in findings[0].detail


@pytest.mark.parametrize("name", ["x" * 201, "two\nlines"])
def test_a_class_name_that_a_bundle_does_not_allow_is_refused(photos: Path, load: Load, name: str) -> None:
    (photos / "cat").rename(photos / name)
    with pytest.raises(DataError, match="cannot be a class name"):
        load(photos)


def test_an_empty_class_folder_is_reported(photos: Path, load: Load) -> None:
    (photos / "cow").mkdir()
    dataset = load(photos)
    assert [finding.detail for finding in dataset.report.of_kind("empty class")] == ["class 'cow' has no photos"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no photos in"),
        ({".": 3}, "contains 3 photos but no class folders; put the photos of each class in a folder"),
        ({"cat": 3}, "has only one class ('cat')"),
        ({"all/cat": 3, "all/dog": 3}, "one folder, 'all'; if the folders inside (cat, dog, ...) are the classes"),
        ({"cat": 3, "dog": 1}, "class 'dog' in .* has a single usable photo"),
        ({"train/cat": 3, "train/dog": 3, "cow": 3}, "mixes split folders .train. with other folders of photos"),
        ({"test/cat": 3, "test/dog": 3}, "has test photos but no usable train photo"),
        ({"train/cat": 3, "train/dog": 3, "test/cow": 3}, "class 'cow' has no training photos"),
    ],
)
def test_a_layout_that_cannot_be_used_is_one_clear_error(
    tmp_path: Path, load: Load, counts: dict[str, int], message: str
) -> None:
    root = tmp_path / "p"
    root.mkdir()
    with pytest.raises(DataError) as error:
        load(fill(root, counts))
    assert re.search(message.replace("(", r"\(").replace(")", r"\)"), str(error.value))
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path: Path, load: Load) -> None:
    with pytest.raises(DataError, match=r"no such folder or CSV file: .*nowhere"):
        load(tmp_path / "nowhere")


def test_a_folder_with_only_other_files_is_refused_with_their_suffixes(tmp_path: Path, load: Load) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.pdf").touch()
    with pytest.raises(DataError, match=r"only 1 \.pdf"):
        load(tmp_path / "p")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "label,path\n"])
def test_a_csv_file_lists_photos_relative_to_itself(photos: Path, load: Load, header: str, delimiter: str) -> None:
    rows = [(f"cat/{n}.jpg", "kitten") for n in range(5)] + [(f"dog/{n}.jpg", "puppy, big") for n in range(5)]
    lines = [f'"{label}",{path}' if header else f'{path},"{label}"' for path, label in rows]
    text = header + "\n".join(lines).replace(", big", "@").replace(",", delimiter).replace("@", ", big") + "\n\n"
    table = photos / "list.csv"
    table.write_text("\ufeff" + header.replace(",", delimiter) + text[len(header) :], encoding="utf-8")
    dataset = load(table)
    assert dataset.report.counts.keys() == {"kitten", "puppy, big"}
    assert dataset.report.total == 10


def test_a_csv_file_from_windows_is_read(photos: Path, load: Load) -> None:
    lines = [f"{label}\\{n}.jpg;{label}" for label in ("cat", "dog") for n in range(10)]
    (photos / "list.csv").write_text("img_path;class_name\r\n" + "\r\n".join(lines))
    assert load(photos / "list.csv").report.total == 20


def test_a_csv_file_may_have_spaces_after_delimiters_and_blank_lines(photos: Path, load: Load) -> None:
    lines = [f'{label}/{n}.jpg; "{label}; small"' for label in ("cat", "dog") for n in range(5)]
    (photos / "list.csv").write_text("\n  \npath; label\n" + "\n".join(lines) + "\n   \n")
    assert load(photos / "list.csv").report.counts.keys() == {"cat; small", "dog; small"}


def test_a_csv_file_may_assign_splits(photos: Path, load: Load) -> None:
    lines = [f"{label}/{n}.jpg,{label},{'test' if n > 6 else 'train'}" for label in ("cat", "dog") for n in range(10)]
    (photos / "list.csv").write_text("\n".join(lines))
    dataset = load(photos / "list.csv")
    assert {sample.path.stem for sample in dataset.samples if sample.split == "test"} == {"7", "8", "9"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat/0.jpg\n", "line 1: expected path,label"),
        ("cat/0.jpg,cat\ncat/1.jpg,\n", "line 2: expected path,label"),
        ("cat/0.jpg,cat,holdout\n", "line 1: unknown split 'holdout'; choose train, val or test"),
        ("cat/0.jpg,cat,test\ncat/1.jpg,cat\n", "gives a split for some photos but not for cat/1.jpg"),
        ("picture,species\ncat/0.jpg,cat\n", "line 1: expected path,label but 'picture' is not a photo"),
        ("cat,cat/0.jpg\ndog,dog/0.jpg\n", "line 1: expected path,label but 'cat' is not a photo"),
        ("path,label\ncat/0.jpg,cat, small\n", "line 2 has 3 cells, the first line 2: 'cat/0.jpg,cat,small'"),
        ("", "no photos in"),
    ],
)
def test_a_csv_file_that_cannot_be_used_names_the_line(photos: Path, load: Load, text: str, message: str) -> None:
    (photos / "list.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        load(photos / "list.csv")


def test_a_binary_file_is_not_a_csv_file(photos: Path, load: Load) -> None:
    (photos / "list.csv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        load(photos / "list.csv")


def test_a_missing_photo_in_a_csv_file_is_a_finding(photos: Path, load: Load) -> None:
    lines = [f"{label}/{n}.jpg,{label}" for label in ("cat", "dog") for n in range(11)]
    (photos / "list.csv").write_text("\n".join(lines))
    report = load(photos / "list.csv").report
    assert report.total == 20
    assert [finding.detail for finding in report.of_kind("unreadable")] == ["no such file or directory"] * 2
