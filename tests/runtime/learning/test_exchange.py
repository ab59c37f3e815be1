"""States and patches are merged and bundles exported; no picture counts twice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edgetl.bundle import open_bundle, pack
from edgetl.errors import BundleError, EdgetlError, LearningError
from edgetl.learners import Statistics, to_grid
from edgetl.runtime import Classifier, Learner
from tests.runtime.learning.states import embeddings, frame, shipped_statistics, trained_once


@pytest.fixture
def device(teachable: Path, tmp_path: Path):
    """Opens one of several devices by name."""
    opened: dict[str, Learner] = {}

    def open_device(name: str) -> Learner:
        if name not in opened:
            opened[name] = Learner(teachable, state=tmp_path / name, threads=1)
        return opened[name]

    yield open_device
    for learner in opened.values():
        learner.close()


def test_merging_devices_equals_teaching_one_device_everything(device, teachable: Path) -> None:
    raw = embeddings(9)
    device("attic").teach_embeddings(raw[:3], "yellow")
    device("cellar").teach_embeddings(raw[3:5], "yellow")
    device("cellar").teach_embeddings(raw[5:7], "red")
    device("garden").teach_embeddings(raw[7:], "grey")
    step = device("attic").merge(device("cellar").folder, device("garden").folder)
    assert len(step.pictures) == 6
    wanted = trained_once(teachable, {"yellow": raw[:5], "red": raw[5:7], "grey": raw[7:]})
    assert device("attic").statistics() == wanted


def test_a_merge_is_one_step_to_undo(device) -> None:
    device("attic").teach_embeddings(embeddings(2), "yellow")
    before = device("attic").statistics()
    device("cellar").teach_embeddings(embeddings(3, seed=1), "grey")
    device("attic").merge(device("cellar").folder)
    device("attic").undo()
    assert device("attic").statistics() == before


def test_a_picture_counts_once_whatever_route_it_takes(device) -> None:
    device("attic").teach_embeddings(embeddings(2), "yellow")
    device("cellar").teach_embeddings(embeddings(3, seed=1), "grey")
    device("attic").merge(device("cellar").folder)
    everything = device("attic").statistics()
    device("attic").merge(device("cellar").folder, device("cellar").folder)
    assert device("attic").statistics() == everything
    device("cellar").merge(device("attic").folder)
    assert device("cellar").statistics() == everything
    device("garden").merge(device("cellar").folder, device("attic").folder)
    assert device("garden").statistics() == everything


def test_a_picture_forgotten_here_does_not_come_back(device) -> None:
    device("cellar").teach_embeddings(embeddings(3), "grey")
    step = device("attic").merge(device("cellar").folder)
    device("attic").forget(step.pictures[0])
    remaining = device("attic").statistics()
    device("attic").merge(device("cellar").folder)
    assert device("attic").statistics() == remaining


def test_only_pictures_in_effect_there_are_merged_with_their_present_labels(device, teachable: Path) -> None:
    raw = embeddings(4)
    cellar = device("cellar")
    first = cellar.teach_embeddings(raw, "grey").pictures
    cellar.correct(first[0], "red")
    cellar.forget(first[1])
    cellar.rename("grey", "ash")
    cellar.rename("blue", "navy")
    device("attic").merge(cellar.folder)
    wanted = trained_once(teachable, {"red": raw[:1], "ash": raw[2:]})
    wanted.rename("blue", "navy")
    assert device("attic").statistics() == wanted


def test_a_class_forgotten_elsewhere_is_forgotten_here_unless_it_was_taught_here(device) -> None:
    device("cellar").forget_class("blue")
    device("cellar").forget_class("green")
    device("attic").teach_embeddings(embeddings(1)[0], "green")
    device("attic").merge(device("cellar").folder)
    assert device("attic").labels == ("green", "red")


def test_a_patch_does_the_same_and_is_hardly_larger_than_the_embeddings(device, tmp_path: Path) -> None:
    device("attic").teach_many([frame("yellow", seed) for seed in range(5)], "yellow")
    device("attic").rename("red", "crimson")
    patch = device("attic").export_patch(tmp_path / "attic.patch")
    assert patch.stat().st_size < 2_000
    device("cellar").merge(patch)
    assert device("cellar").statistics() == device("attic").statistics()
    there, here = (device(name).classifier().predict(frame("yellow", 9)) for name in ("attic", "cellar"))
    assert here.probabilities == there.probabilities


def test_an_exported_bundle_predicts_the_same_and_learns_on(device, teachable: Path, tmp_path: Path) -> None:
    attic = device("attic")
    attic.teach_many([frame("yellow", seed) for seed in range(5)], "yellow")
    attic.forget_class("blue")
    attic.rename("red", "crimson")
    bundle = attic.export_bundle(tmp_path / "new.edgetl")
    assert open_bundle(bundle).manifest.labels == ["green", "crimson", "yellow"]
    assert open_bundle(bundle).manifest.accuracy == {}
    old, new = (classifier.predict(frame("yellow", 9)) for classifier in (attic.classifier(), Classifier(bundle)))
    assert new.probabilities == old.probabilities
    raw = embeddings(3)
    with Learner(bundle, threads=1) as learner:
        learner.teach_embeddings(raw, "blue")
        attic.teach_embeddings(raw, "blue")
        assert learner.statistics() == attic.statistics()
        learner.teach(frame("grey"), "grey", guard=1.0)
        learner.forget_class("blue")
        assert learner.labels == ("green", "crimson", "yellow", "grey")


def test_the_canaries_of_an_exported_bundle_expect_its_own_answers(device, tmp_path: Path) -> None:
    device("attic").rename("red", "crimson")
    bundle = open_bundle(device("attic").export_bundle(tmp_path / "new.edgetl"))
    (answer,) = json.loads(bundle.read("canaries.json"))["expected"]
    assert answer["label"] == "crimson"
    assert "report.json" not in bundle


def test_a_state_merged_into_the_bundle_exported_from_it_counts_once(device, tmp_path: Path) -> None:
    attic = device("attic")
    first = embeddings(2)
    attic.teach_embeddings(first, "yellow")
    bundle = attic.export_bundle(tmp_path / "new.edgetl")
    attic.teach_embeddings(embeddings(1, seed=1)[0], "yellow")
    with Learner(bundle, threads=1) as learner:
        assert len(learner.merge(attic.folder).pictures) == 1
        assert learner.statistics() == attic.statistics()


@pytest.fixture
def other_backbone(teachable: Path, tmp_path: Path) -> Path:
    """The same bundle, whose model differs in a byte that no interpreter reads: another backbone all the same."""
    bundle = open_bundle(teachable)
    entries = {name: bundle.read(name) for name in bundle.names}
    entries["model.tflite"] += b"\0"
    return pack(tmp_path / "other.edgetl", bundle.manifest, entries)


def test_a_new_backbone_learns_from_thumbnails_and_counts_the_pictures_without_one(
    teachable: Path, other_backbone: Path, tmp_path: Path
) -> None:
    with Learner(teachable, state=tmp_path / "old", threads=1, thumbnails=True) as old:
        old.teach_many([frame("yellow", seed) for seed in range(4)], "yellow")
        assert all(entry.has_thumbnail for entry in old.history())
    with Learner(teachable, state=tmp_path / "old", threads=1) as old:
        old.teach_embeddings(embeddings(3), "yellow")
    with Learner(other_backbone, threads=1) as new:
        step = new.merge(tmp_path / "old")
        assert (len(step.pictures), step.not_carried) == (4, 3)
        assert new.classifier().predict(frame("yellow", 9)).label == "yellow"


def test_a_patch_of_another_backbone_is_refused(device, other_backbone: Path, tmp_path: Path) -> None:
    here = device("here")
    here.teach_embeddings(embeddings(3), "yellow")
    here.export_patch(tmp_path / "yellow.patch")
    with Learner(other_backbone, threads=1) as new, pytest.raises(LearningError, match="patch for another backbone"):
        new.merge(tmp_path / "yellow.patch")
    assert not other_backbone.with_suffix(".state").exists()


def test_a_thumbnail_gives_nearly_the_embedding_of_the_picture(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path, threads=1, thumbnails=True) as learner:
        picture = np.repeat(np.repeat(frame("red"), 20, axis=0), 20, axis=1)
        learner.teach(picture, "red")
        (thumbnail,) = learner._state.journal.thumbnails([1]).values()
        again, before = learner.classifier().embed(thumbnail), learner.classifier().embed(picture)
    a, b = (to_grid(raw, -128).astype(float) for raw in (again, before))
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.99


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"[]", "not a patch that edgetl can read"),
        (
            b'{"identity": {}, "shipped": {}, "pictures": [{"origin": "", "label": 3, "embedding": ""}]}',
            "invalid labels",
        ),
        (b'{"identity": {}, "shipped": {"red": "\\n"}, "pictures": []}', "not a patch"),
        (None, "is not a patch; give"),
    ],
)
def test_a_hostile_patch_is_refused_in_one_line(device, teachable: Path, tmp_path: Path, document, complaint) -> None:
    manifest = open_bundle(teachable).manifest
    patch = pack(tmp_path / "hostile.patch", manifest, {} if document is None else {"patch.json": document})
    with pytest.raises((BundleError, LearningError), match=complaint):
        device("attic").merge(patch)
    assert device("attic").history() == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE journal SET embedding = X'789c4bc4000000ffff'", "embeddings of another size"),
        ("UPDATE journal SET embedding = 'none at all'", "is damaged"),
        ("UPDATE journal SET label = char(10)", "invalid labels"),
        ("UPDATE identity SET value = '7' WHERE key = 'labels'", "does not list its bundle's classes"),
        ("DROP TABLE journal", "no such table"),
    ],
)
def test_a_hostile_state_is_refused_in_one_line(device, change: str, complaint: str) -> None:
    device("cellar").teach_embeddings(embeddings(3), "grey")
    device("cellar").close()
    with sqlite3.connect(device("cellar").folder / "journal.sqlite") as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(EdgetlError, match=complaint):
        device("attic").merge(device("cellar").folder)
    assert device("attic").history() == []


@pytest.mark.parametrize(
    ("entry", "content", "complaint"),
    [
        ("statistics.bin", b"", "not statistics"),
        ("statistics.bin", Statistics(16).to_bytes(), "do not match its classes"),
        ("guard/labels.json", b"[1, 2]", "guard set does not match its embeddings"),
        ("guard/labels.json", json.dumps(["pink"] * 18).encode(), "'pink', which was never taught"),
        ("guard/embeddings.npy", b"PK\3\4", "is not an array of int8"),
    ],
)
def test_a_forged_bundle_is_refused_in_one_line(
    teachable: Path, tmp_path: Path, entry: str, content: bytes, complaint: str
) -> None:
    bundle = open_bundle(teachable)
    entries = {name: bundle.read(name) for name in bundle.names}
    lying = pack(tmp_path / "lying.edgetl", bundle.manifest, {**entries, entry: content})
    with Learner(lying, threads=1) as learner, pytest.raises(EdgetlError, match=complaint):
        learner.teach(frame("yellow"), "yellow", guard=1.0)
    assert not (tmp_path / "lying.state").exists()


def test_a_folder_without_a_state_and_a_missing_file_are_refused(device, teachable: Path, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="there is no state in"):
        device("attic").merge(tmp_path)
    with pytest.raises(BundleError, match="there is no bundle at"):
        device("attic").merge(tmp_path / "nothing")
    assert device("attic").statistics() == shipped_statistics(teachable)
