"""Folders and tables of photos as people have them: each is understood, or refused with a drawing, never guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetl.bundle import look_alike_key
from edgetl.data import Dataset, list_photos, load_folder
from edgetl.errors import DataError
from tests.data.conftest import fill, scene

Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda source: load_folder(source, cache=tmp_path / "cache")


def splits_by_folder(dataset: Dataset, root: Path) -> dict[str, set[str]]:
    """The splits of the photos below each top folder."""
    found: dict[str, set[str]] = {}
    for sample in dataset.samples:
        found.setdefault(sample.path.relative_to(root).parts[0], set()).add(sample.split)
    return found


SPLIT_NAMES = [
    ("training_set", "test_set"),
    ("Train", "Testing"),
    ("TRAINING", "TEST"),
    ("train_images", "test_images"),
    ("train-data", "test-data"),
    ("trainset", "testset"),
    ("TrainSet", "TestSet"),
    ("Training Data", "Evaluation Data"),
    ("seg_train", "seg_test"),
    ("fruits-train", "fruits-test"),
    ("train_224", "test_224"),
    ("train", "eval"),
]


@pytest.mark.parametrize(("train", "test"), SPLIT_NAMES)
@pytest.mark.parametrize("wrapper", ["{0}/{1}", "{0}/{0}/{1}", "{0}/images/{1}"])
def test_the_users_test_photos_are_never_trained_on(
    tmp_path: Path, load: Load, train: str, test: str, wrapper: str
) -> None:
    counts = {wrapper.format(split, label): 5 for split in (train, test) for label in ("fern", "moss")}
    dataset = load(fill(tmp_path / "p", counts))
    assert dataset.labels == ("fern", "moss")
    found = splits_by_folder(dataset, tmp_path / "p")
    assert found[test] == {"test"}
    assert "test" not in found[train]


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "dev", "VALIDATION_SET", "val_images"])
def test_photos_to_choose_a_model_by_are_recognised_by_their_usual_names(tmp_path: Path, load: Load, name: str) -> None:
    counts = {f"{split}/{label}": 4 for split in ("Train", name, "Test") for label in ("fern", "moss")}
    found = splits_by_folder(load(fill(tmp_path / "p", counts)), tmp_path / "p")
    assert found == {"Train": {"train"}, name: {"val"}, "Test": {"test"}}


def test_split_folders_inside_each_class_are_splits(tmp_path: Path, load: Load) -> None:
    counts = {f"{label}/{split}": 5 for label in ("fern", "moss") for split in ("Training", "Test")}
    dataset = load(fill(tmp_path / "p", counts))
    assert dataset.labels == ("fern", "moss")
    assert {sample.split for sample in dataset.samples if sample.path.parent.name == "Test"} == {"test"}
    assert "test" not in {sample.split for sample in dataset.samples if sample.path.parent.name == "Training"}


@pytest.mark.parametrize(
    ("counts", "fault"),
    [
        ({"fern/train": 4, "fern/test": 3, "moss": 4}, "split folder 'test' is not understood inside 'fern'"),
        ({"fern/train": 4, "fern/test": 3, "moss/train": 4, "moss/more": 3}, "split folder 'test' is not understood"),
        ({"train/fern": 4, "train/moss": 4, "test": 3}, "mixes split folders (train)"),
        ({"train/fern": 4, "train/moss": 4, "test/unsorted": 3}, "class 'unsorted' has no training photos"),
        ({"train": 4, "test": 4}, "the photos in test and train are in no class folder"),
        ({"fern": 4, "moss": 4, "test": 4}, "the photos in test are in no class folder"),
        ({"fern_train": 4, "moss_train": 4, "fern_test": 4, "moss_test": 4}, "held back for testing"),
        ({"fern": 4, "moss": 4, "fern_test": 4}, "held back for testing"),
        (
            {"seg_train/fern": 4, "seg_train/moss": 4, "seg_test/fern": 3, "seg_test/moss": 3, "seg_pred": 3},
            "held back for testing",
        ),
        ({f"{place}/{label}": 3 for place in ("north", "south") for label in ("fern", "moss")}, "the same folders"),
        ({f"fold{fold}/{label}": 3 for fold in (1, 2, 3) for label in ("fern", "moss", "oak")}, "the same folders"),
        (
            {f"photos{n}/{label}": 3 for n in ("", " (1)") for label in ("fern", "moss")},
            "looks like a copy of 'photos'",
        ),
        ({"fern": 4, "fern - Copy": 4, "moss": 4}, "'fern - Copy' looks like a copy of 'fern'"),
        ({".": 30, "fern": 4, "moss": 4}, "30 photos are beside the class folders"),
    ],
)
def test_a_layout_with_two_meanings_is_refused_and_drawn_in_one_line(
    tmp_path: Path, load: Load, counts: dict[str, int], fault: str
) -> None:
    root = fill(tmp_path / "p", counts)
    with pytest.raises(DataError) as error:
        load(root)
    message = str(error.value)
    assert fault in message
    assert "\n" not in message
    found = message.split("; found ")[1]
    for folder in counts:
        assert all(part in found for part in folder.split("/") if part != ".")
    assert "expected CLASS/photo.jpg, or train/CLASS/photo.jpg and test/CLASS/photo.jpg" in found


@pytest.mark.parametrize(
    "classes",
    [
        ("bus", "train", "tram"),
        ("invalid", "valid"),
        ("freight_train", "passenger_train"),
        ("crash_test", "road_works"),
        ("fern", "fern_moss"),
        ("screw (1)", "screw (2)"),
        ("testament", "trainer"),
        ("development", "marketing"),
    ],
)
def test_classes_may_have_names_that_are_near_those_of_splits(
    tmp_path: Path, load: Load, classes: tuple[str, ...]
) -> None:
    assert load(fill(tmp_path / "p", dict.fromkeys(classes, 4))).labels == classes


def test_sessions_inside_classes_stay_inside_them(tmp_path: Path, load: Load) -> None:
    counts = {"fern/monday": 3, "fern/tuesday": 3, "moss/friday": 3, "moss/monday": 3}
    assert load(fill(tmp_path / "p", counts)).labels == ("fern", "moss")


@pytest.mark.parametrize("inside", ["", "train/"])
def test_one_folder_around_everything_is_named_and_drawn(tmp_path: Path, load: Load, inside: str) -> None:
    root = fill(tmp_path / "p", {f"download/photos/{inside}{label}": 4 for label in ("fern", "moss")})
    with pytest.raises(DataError, match="contains one folder, 'download/photos") as error:
        load(root)
    advised = str(error.value).split("--data '")[1].rstrip("'")
    assert load(Path(advised)).labels == ("fern", "moss")


def test_the_advice_on_a_folder_around_everything_never_leads_to_another_error(tmp_path: Path, load: Load) -> None:
    root = fill(tmp_path / "p", {"download/train": 4, "download/test": 4})
    with pytest.raises(DataError, match="are in no class folder"):
        load(root)


def test_photos_beside_the_class_folders_are_reported(tmp_path: Path, load: Load) -> None:
    [finding] = load(fill(tmp_path / "p", {".": 3, "fern": 5, "moss": 5})).report.of_kind("outside classes")
    assert "3 photos beside the class folders are not used" in finding.detail
    assert len(finding.paths) == 3


def folders_in(encoding: str, names: tuple[str, ...], root: Path) -> Path:
    for number, name in enumerate(names):
        folder = os.fsencode(root) + b"/" + name.encode(encoding)
        os.makedirs(folder)
        for photo in range(4):
            scene(10 * number + photo).save(os.fsdecode(folder) + f"/{photo}.jpg")
    return root


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp1251", ("берёза", "осинка", "рябина")),
        ("cp866", ("берёза", "осинка", "рябина")),
        ("shift_jis", ("松林", "竹藪", "梅園")),
        ("gbk", ("松树", "竹子", "梅花")),
        ("euc_kr", ("소나무", "대나무", "매화나무")),
        ("cp1252", ("Föhre", "Föhne", "Fähre")),
    ],
)
def test_class_folders_from_a_windows_zip_stay_different_classes(
    tmp_path: Path, load: Load, encoding: str, names: tuple[str, ...]
) -> None:
    dataset = load(folders_in(encoding, names, tmp_path / "p"))
    assert len(dataset.labels) == 3
    assert all(sum(dataset.report.counts[label].values()) == 4 for label in dataset.labels)
    assert all("�" not in label and label.encode("utf-8") for label in dataset.labels)
    [finding] = dataset.report.of_kind("class name not UTF-8")
    assert "rename the folders" in finding.detail
    assert any(name in finding.detail for name in names), "the name that was meant is shown"


def test_two_folders_that_would_be_written_alike_are_refused(tmp_path: Path, load: Load) -> None:
    root = folders_in("cp1251", ("ель", "дуб"), tmp_path / "p")
    fill(root, {r"\xe5\xeb\xfc": 4}, 500)
    with pytest.raises(DataError, match="two class folders that read"):
        load(root)


@pytest.mark.parametrize(
    "other",
    [
        "Maple",
        "MAPLE",
        "ma\u200bple",
        "\ufeffmaple",
        "maple\u2060",
        "\uff4daple",
        "m\u0430ple",
        "MAPLE\ufe0f",
        "mapl\u0435",
    ],
)
def test_classes_that_look_the_same_are_reported(tmp_path: Path, load: Load, other: str) -> None:
    report = load(fill(tmp_path / "p", {"maple": 4, other: 4, "oak": 4})).report
    [finding] = report.of_kind("similar class names")
    assert "'maple'" in finding.detail
    assert "oak" not in finding.detail
    assert len(set(finding.detail.split(" count as")[0].split(", "))) == 2, "the two names can be told apart"


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path, load: Load) -> None:
    assert load(fill(tmp_path / "p", {"caf\u00e9": 4, "cafe\u0301": 4, "bar": 4})).labels == ("bar", "caf\u00e9")


@pytest.mark.parametrize(
    ("one", "other"),
    [("e\u0301t\u00e9", "\u00c9T\u00c9"), ("5\u2013A", "5-a"), ("a\u00a0b", "a b"), ("стол", "СТОЛ"), ("A\ufe0f", "a")],
)
def test_look_alikes_have_one_key(one: str, other: str) -> None:
    assert look_alike_key(one) == look_alike_key(other)


@pytest.mark.parametrize(("one", "other"), [("maple", "mapple"), ("étè", "ete"), ("a-b", "ab"), ("梨", "桃")])
def test_different_labels_have_different_keys(one: str, other: str) -> None:
    assert look_alike_key(one) != look_alike_key(other)


def test_what_a_photo_is_depends_on_its_content(tmp_path: Path, load: Load) -> None:
    root = fill(tmp_path / "p", {"fern": 3, "moss": 3})
    for number, (name, kind) in enumerate(
        [("png.jpg", "PNG"), ("webp.png", "WEBP"), ("IMG_1", "JPEG"), ("IMG_2", "PNG"), ("a.jpg_large", "JPEG")]
    ):
        with (root / "fern" / name).open("wb") as file:
            scene(100 + number).save(file, kind)
    (root / "moss" / "page.jpg").write_text("<html>not found</html>")
    (root / "moss" / "README").write_text("BMP or JPEG?")
    (root / "moss" / "0.jpg.bak").write_bytes((root / "moss" / "0.jpg").read_bytes())
    report = load(root).report
    assert sum(report.counts["fern"].values()) == 8
    assert sum(report.counts["moss"].values()) == 3
    assert report.ignored == {".bak": 1, "no suffix": 1}
    assert [finding.paths[0].name for finding in report.of_kind("unreadable")] == ["page.jpg"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"PK\x03\x04rest", "photos.zip", "is a ZIP archive; unpack it"),
        (b"PK\x03\x04rest", "photos", "is a ZIP archive; unpack it"),
        (b"PK\x03\x04rest", "photos.csv", "is a ZIP archive; unpack it"),
        (b"\x1f\x8b\x08rest", "photos.tgz", "is a gzip archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "photos.7z", "is a 7z archive; unpack it"),
        (b"\xff\xd8\xff\xe0rest", "photos.csv", "is a single photo"),
        (b"%PDF-1.7", "photos.pdf", "is a PDF document"),
    ],
)
def test_a_file_that_is_no_table_is_named_by_its_content(
    tmp_path: Path, content: bytes, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list_photos(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={0}\r\n", "path{0}label\r\n", "sep={0}\r\npath{0}label\r\n"])
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path: Path, encoding: str, delimiter: str, first: str) -> None:
    root = fill(tmp_path / "p", {"a": 2})
    rows = "\r\n".join(f"a/{number}.jpg{delimiter}берёза" for number in range(2))
    (root / "table.txt").write_bytes((first.format(delimiter) + rows + "\r\n").encode(encoding))
    assert [(photo.name, photo.label) for photo in list_photos(root / "table.txt").photos] == [
        ("a/0.jpg", "берёза"),
        ("a/1.jpg", "берёза"),
    ]


@pytest.mark.parametrize("what", ["/dev/zero", "/dev/stdin", "pipe", "link to pipe"])
def test_a_table_cannot_make_a_build_read_a_device_or_a_pipe(tmp_path: Path, what: str) -> None:
    root = fill(tmp_path / "p", {"a": 2})
    os.mkfifo(root / "pipe")
    (root / "link to pipe").symlink_to("pipe")
    if what == "/dev/stdin" and not Path(what).is_char_device():
        pytest.skip("standard input is a file here")
    (root / "table.csv").write_text(f"a/0.jpg,fern\n{what},fern\n")
    with pytest.raises(DataError, match=r"line 2: .* is a device or a pipe"):
        list_photos(root / "table.csv")


def test_a_pipe_that_takes_a_photos_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgetl.data.reading import photo_pass

    root, read = fill(tmp_path / "p", {"fern": 4, "moss": 4}), photo_pass.stamp_of

    def replace(path: Path) -> object:
        stamp = read(path)
        if path == root / "fern" / "0.jpg" and not path.is_fifo():
            path.unlink()
            os.mkfifo(path)
        return stamp

    monkeypatch.setattr(photo_pass, "stamp_of", replace)
    report = load_folder(root, cache=tmp_path / "cache").report
    assert [finding.detail for finding in report.of_kind("unreadable")] == ["it is a pipe or a device, not a photo"]


def test_links_to_themselves_and_pipes_among_the_photos_are_counted(tmp_path: Path, load: Load) -> None:
    root = fill(tmp_path / "p", {"fern": 4, "moss": 4})
    (root / "loop").symlink_to("loop")
    (root / "fern" / "loop.jpg").symlink_to("loop.jpg")
    (root / "moss" / "up").symlink_to("..", target_is_directory=True)
    os.mkfifo(root / "fern" / "pipe.jpg")
    os.mkfifo(root / "fern" / "pipe")
    report = load(root).report
    assert report.total == 8
    assert report.ignored == {
        "broken link or no regular file": 2,
        "linked folder, already seen": 1,
        "no suffix": 2,
    }


def test_a_photo_that_a_table_names_in_several_ways_counts_once(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", {"a": 2})
    names = ["a/0.jpg", "./a/0.jpg", "a//0.jpg", "a/./0.jpg", "a\\0.jpg"] * 200
    (root / "table.csv").write_text("\n".join(f"{name},fern" for name in [*names, "a/1.jpg"]))
    listing = list_photos(root / "table.csv")
    assert [photo.name for photo in listing.photos] == ["a/0.jpg", "a/1.jpg"]
    assert listing.ignored == {"line repeated": 999}


def test_a_table_with_more_classes_than_a_bundle_can_hold_is_refused(tmp_path: Path, load: Load) -> None:
    (tmp_path / "table.csv").write_text("\n".join(f"{number}.jpg,class {number // 2}" for number in range(20_004)))
    with pytest.raises(DataError, match="10002 classes; at most 10000"):
        load(tmp_path / "table.csv")
