"""The learning verbs: each does what the Learner's method of its name does, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_command_line import edgetl
from tests.runtime.learning.states import frame


@pytest.fixture
def bundle(teachable: Path, tmp_path: Path) -> Path:
    path = tmp_path / "colours.edgetl"
    path.write_bytes(teachable.read_bytes())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "yellow ones"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(frame("yellow", seed)).save(folder / f"{seed}.png")
    return folder


def json_of(*arguments: object) -> dict:
    done = edgetl(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_taught_is_run_evaluated_and_exported(bundle: Path, photos: Path, tmp_path: Path) -> None:
    taught = json_of("teach", bundle, "yellow", photos / "0.png", photos / "1.png")
    assert taught["pictures"] == [1, 2]
    assert taught["labels"] == ["blue", "green", "red", "yellow"]
    assert taught["effect"]["cost_points"] == 0
    assert json_of("run", bundle, "--source", photos / "2.png")["label"] == "yellow"
    labelled = tmp_path / "labels.csv"
    labelled.write_text(f"path,label\n{photos / '2.png'},yellow\n")
    assert json_of("evaluate", bundle, "--data", labelled)["accuracy"] == 1.0
    for form in ("patch", "bundle", "tflite"):
        assert json_of("export", bundle, "--format", form, "-o", tmp_path / form)["bytes"] > 0
    assert json_of("run", tmp_path / "bundle", "--source", photos / "2.png")["label"] == "yellow"
    assert json_of("merge", bundle, tmp_path / "patch", "--state", tmp_path / "other")["pictures"] == [2, 3]


def test_a_mistake_is_corrected_forgotten_and_undone(bundle: Path, photos: Path) -> None:
    json_of("teach", bundle, "red", photos)
    assert json_of("correct", bundle, 2, "yellow")["kind"] == "correct"
    assert json_of("forget", bundle, 1)["pictures"] == [1]
    assert json_of("rename", bundle, "yellow", "lemon")["labels"][-1] == "lemon"
    assert json_of("forget", bundle, "--class", "blue")["labels"] == ["green", "red", "lemon"]
    assert json_of("undo", bundle)["subject"] == 7
    assert json_of("status", bundle)["pictures"]["lemon"] == {"shipped": 0, "taught": 1}
    assert json_of("reset", bundle)["labels"] == ["blue", "green", "red"]
    assert [entry["kind"] for entry in json_of("history", bundle)][3:] == [
        "correct",
        "forget",
        "rename",
        "forget-class",
        "undo",
        "reset",
    ]


def test_each_learning_verb_prints_lines(bundle: Path, photos: Path) -> None:
    output = edgetl("teach", bundle, "yellow", photos).stdout.splitlines()
    assert output[0] == "step 1: taught 'yellow' with 3 pictures"
    assert output[2] == "known classes, on guard pictures: +0.0 points"
    assert edgetl("undo", bundle).stdout.startswith("step 4: undid step 1 (teach)")
    assert "undone" in edgetl("history", bundle).stdout
    assert "colours, 2 steps, 0 pictures pending" in edgetl("status", bundle).stdout


def test_a_refusal_names_the_losers_and_ends_with_code_1(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "red ones"
    folder.mkdir()
    for seed in range(100, 140):
        Image.fromarray(frame("red", seed)).save(folder / f"{seed}.png")
    done = edgetl("teach", bundle, "scarlet", folder, "--guard", "1.0")
    assert done.returncode == 1
    assert "refused: 40 pictures of 'scarlet'" in done.stdout
    assert "'scarlet' now attracts" in done.stdout
    assert json_of("status", bundle)["pending"] == 40
    assert json_of("teach", bundle, "scarlet")["accepted"]


def test_predictions_count_for_the_drift_of_a_named_state(bundle: Path, tmp_path: Path) -> None:
    folder, state = tmp_path / "unlike", tmp_path / "state"
    folder.mkdir()
    for seed in range(24):
        Image.fromarray(255 - frame(("red", "green", "blue")[seed % 3], seed)).save(folder / f"{seed:02d}.png")
    edgetl("run", bundle, "--source", folder, "--state", state)
    assert json_of("status", bundle, "--state", state)["drift"]["verdict"] == "changed: teach or rebuild"
    output = edgetl("status", bundle, "--state", state).stdout
    assert "drift: changed: teach or rebuild (24 pictures classified since the latest step)" in output
    assert "  novelty " in output
    drift = json_of("status", bundle)["drift"]
    assert drift == {"verdict": "unknown: too few pictures yet", "pictures": 0, "signals": {}}


def test_an_adaptation_is_printed_undone_and_refused(bundle: Path, tmp_path: Path) -> None:
    for label, look in (("red", "green"), ("green", "blue"), ("blue", "red")):
        folder = tmp_path / label
        folder.mkdir()
        for seed in range(4):
            Image.fromarray(frame(look, seed)).save(folder / f"{seed}.png")
        json_of("teach", bundle, label, folder)
    refused = edgetl("adapt", bundle, "--guard", "1")
    assert refused.returncode == 1
    assert "refused: this adapt would cost the known classes too much" in refused.stdout
    found = json_of("adapt", bundle)
    assert found["adaptation"]["after"] > found["adaptation"]["before"]
    assert edgetl("adapt", bundle).stdout.startswith("nothing was changed: no adaptation is clearly better")
    assert json_of("undo", bundle)["subject"] == found["id"]
    assert "what was shipped has weight 1/" in edgetl("adapt", bundle).stdout
    assert edgetl("export", bundle, "--format", "bundle", "-o", tmp_path / "out").returncode == 2
    assert json_of("export", bundle, "-o", tmp_path / "adapted.tflite")["bytes"] > 0


def test_an_unreadable_picture_is_reported_and_skipped(bundle: Path, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"none")
    done = edgetl("teach", bundle, "yellow", photos, "--json")
    assert done.returncode == 0
    assert "broken.png" in done.stderr
    assert len(json.loads(done.stdout)["pictures"]) == 3


def test_if_no_picture_can_be_read_the_error_says_why(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("not a picture")
    done = edgetl("teach", bundle, "red", tmp_path / "broken.jpg")
    assert done.returncode == 2
    assert "no picture to teach 'red' with" in done.stderr
    assert "broken.jpg: not an image" in done.stderr


def test_reading_verbs_create_no_state(bundle: Path) -> None:
    assert json_of("history", bundle) == []
    assert json_of("status", bundle)["steps"] == 0
    assert edgetl("export", bundle, "--format", "patch").returncode == 2
    assert not bundle.with_suffix(".state").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["undo", "{bundle}"], "there is nothing to undo"),
        (["forget", "{bundle}"], "give either the id of a picture or --class LABEL"),
        (["forget", "{bundle}", "5"], "unknown picture 5"),
        (["teach", "{bundle}", "red"], "no picture to teach 'red' with"),
        (["teach", "{bundle}", "red", "nowhere.png"], "no such source: 'nowhere.png'"),
        (["merge", "{bundle}", "nowhere"], "nowhere"),
        (["export", "{bundle}", "--format", "patch"], "nothing was taught to"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(bundle: Path, arguments: list[str], complaint: str) -> None:
    done = edgetl(*(part.format(bundle=bundle) for part in arguments))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not bundle.with_suffix(".state").exists()
