"""Photos that are broken, tiny, blank, duplicated or leaked are found, and so are doubtful classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from edgetl.data import DataOptions, Dataset
from edgetl.errors import DataError
from edgetl.runtime import Embedder
from tests.data.conftest import fill, save, scene

Load = Callable[..., Dataset]
EXCLUDE = DataOptions(exclude_bad=True)


def names(paths: tuple[Path, ...]) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in paths}


def test_broken_files_among_good_ones_are_findings(photos: Path, load: Load, embedder: Embedder) -> None:
    whole = (photos / "cat" / "0.jpg").read_bytes()
    (photos / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "cat" / "empty.jpg").touch()
    (photos / "dog" / "text.png").write_text("no image at all")
    (photos / "dog" / "bomb.png").write_bytes(_bomb())
    dataset = load(photos, embedder=embedder)
    assert dataset.report.total == 20
    assert names(dataset.report.of_kind("truncated")[0].paths) == {"cat/cut.jpg"}
    unreadable = dataset.report.of_kind("unreadable")
    assert set().union(*(names(one.paths) for one in unreadable)) == {"cat/empty.jpg", "dog/text.png", "dog/bomb.png"}
    assert len(dataset.report.left_out) == 4
    assert all("\n" not in finding.detail for finding in dataset.report.findings)


def _bomb() -> bytes:
    """A PNG of a few bytes that declares a billion pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_rotated_grey_and_transparent_photos_are_counted(photos: Path, load: Load) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(scene(50), photos / "cat" / "rotated.jpg", exif=exif)
    save(scene(51).convert("L"), photos / "cat" / "grey.jpg")
    save(scene(52).convert("RGBA"), photos / "dog" / "clear.png")
    assert load(photos).report.properties == {"rotated": 1, "grey": 1, "alpha": 1}


def test_tiny_and_blank_photos_are_left_out_only_on_request(photos: Path, load: Load) -> None:
    save(scene(60, 20, 90), photos / "cat" / "tiny.jpg")
    save(Image.new("RGB", (80, 80), (12, 40, 90)), photos / "dog" / "blank.jpg")
    kept = load(photos).report
    assert (kept.total, len(kept.of_kind("tiny")), len(kept.of_kind("blank"))) == (22, 1, 1)
    strict = load(photos, EXCLUDE).report
    assert {path.name: why for path, why in strict.left_out.items()} == {"tiny.jpg": "tiny", "blank.jpg": "blank"}


def test_a_photo_with_two_labels_is_a_contradiction(photos: Path, load: Load) -> None:
    (photos / "dog" / "same.jpg").write_bytes((photos / "cat" / "3.jpg").read_bytes())
    finding = load(photos).report.of_kind("contradicting labels")[0]
    assert names(finding.paths) == {"cat/3.jpg", "dog/same.jpg"}
    assert names(tuple(load(photos, EXCLUDE).report.left_out)) == {"cat/3.jpg", "dog/same.jpg"}


def test_copies_share_a_group_and_only_one_is_kept_on_request(photos: Path, load: Load) -> None:
    (photos / "cat" / "copy.jpg").write_bytes((photos / "cat" / "3.jpg").read_bytes())
    dataset = load(photos)
    assert len({sample.group for sample in dataset.samples}) == 20
    assert len(dataset.report.of_kind("exact duplicates")) == 1
    assert load(photos, EXCLUDE).report.total == 20


@pytest.mark.parametrize("change", ["smaller", "recoded", "brighter", "flatter"])
def test_the_same_photo_saved_in_another_way_is_a_near_duplicate(photos: Path, load: Load, change: str) -> None:
    original = Image.open(photos / "cat" / "3.jpg")
    changed = {
        "smaller": lambda: original.resize((60, 45)),
        "recoded": lambda: original,
        "brighter": lambda: ImageEnhance.Brightness(original).enhance(1.1),
        "flatter": lambda: ImageEnhance.Contrast(original).enhance(0.8),
    }[change]()
    save(changed, photos / "cat" / "changed.jpg", quality=50)
    findings = load(photos).report.of_kind("near duplicates")
    assert [names(finding.paths) for finding in findings] == [{"cat/3.jpg", "cat/changed.jpg"}]


def test_similar_scanned_digits_are_not_duplicates(tmp_path: Path, load: Load, embedder: Embedder) -> None:
    digits = load_digits()
    for number in range(600):
        image = Image.fromarray((digits.images[number] * 15.9).astype(np.uint8)).resize((64, 64))
        save(image, tmp_path / "digits" / str(digits.target[number]) / f"{number}.png")
    report = load(tmp_path / "digits", embedder=embedder).report
    assert not report.of_kind("near duplicates")


def test_leakage_across_given_splits_is_reported_and_the_test_photo_is_kept(tmp_path: Path, load: Load) -> None:
    root = fill(tmp_path / "p", {f"{split}/{label}": 6 for split in ("train", "test") for label in "ab"})
    leak = Image.open(root / "test" / "a" / "2.jpg")
    save(leak, root / "train" / "a" / "leak.jpg", quality=60)
    finding = load(root).report.of_kind("leakage")[0]
    assert finding.detail == "nearly the same photo is in test and train"
    strict = load(root, EXCLUDE)
    assert names(tuple(strict.report.left_out)) == {"a/leak.jpg"}
    assert strict.report.counts["a"]["test"] == 6


def test_a_class_whose_photos_are_all_broken_is_an_empty_class(photos: Path, load: Load) -> None:
    for number in range(3):
        (photos / "cow" / f"{number}.jpg").parent.mkdir(exist_ok=True)
        (photos / "cow" / f"{number}.jpg").write_text("moo")
    dataset = load(photos)
    assert dataset.labels == ("cat", "dog")
    assert "'cow' has no usable photo" in dataset.report.of_kind("empty class")[0].detail


def test_if_no_photo_is_usable_the_error_names_the_first(photos: Path, load: Load) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"moo")
    with pytest.raises(DataError, match=r"20 unreadable; the first is .*/cat/0.jpg: .*not an image"):
        load(photos)


def test_copies_of_one_photo_count_as_a_single_photo(photos: Path, load: Load) -> None:
    for number in range(3):
        save(scene(70), photos / "cow" / f"{number}.jpg")
    with pytest.raises(DataError, match=r"class 'cow' .* has a single usable photo"):
        load(photos)


def test_small_and_uneven_classes_are_reported(tmp_path: Path, load: Load) -> None:
    report = load(fill(tmp_path / "p", {"many": 25, "few": 2})).report
    kinds = {finding.kind: finding.detail for finding in report.findings}
    assert kinds["few photos"] == "class 'few' has 2 photos"
    assert "'many' has 25 photos, 'few' 2" in kinds["class imbalance"]
    assert len(report.of_kind("not measured")) == 2


def test_the_report_is_json_even_if_file_names_are_not_utf8(photos: Path, load: Load) -> None:
    bad_name = photos / "cat" / b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    bad_name.write_text("broken")
    value = json.loads(json.dumps(load(photos).report.to_json(), ensure_ascii=False).encode())
    assert value["used"] == 20
    assert value["findings"][0]["kind"] == "unreadable"


@pytest.mark.parametrize("name", ["trashnet", "sign_digits"])
def test_real_data_sets_have_few_near_duplicates(shared: Callable[[str], Path], load: Load, name: str) -> None:
    report = load(shared(f"data/{name}")).report
    assert len(report.of_kind("near duplicates")) <= 3
    assert not report.of_kind("unreadable")
