"""A bundle, states and a patch written by an earlier version open, predict, undo and learn on as before."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.bundle import open_bundle
from edgetl.learners import GRID
from edgetl.runtime import Classifier, Learner
from tests.runtime.learning.states import embeddings, frame

DATA = Path(__file__).parent / "data_of_earlier_versions"
"""How these files were made: make.py there."""

EXPECTED = json.loads((DATA / "expected.json").read_text())
"""What the earlier version itself reported."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A writable copy of the data."""
    return Path(shutil.copytree(DATA, tmp_path / "old"))


@pytest.fixture
def learner(old: Path):
    with Learner(old / "colours.edgetl", threads=1) as learner:
        yield learner


def facts(learner: Learner) -> dict[str, Any]:
    """The same as the script that made the data recorded."""
    status, statistics = learner.status(), learner.statistics()
    return {
        "labels": list(status.labels),
        "pictures": status.pictures,
        "pending": status.pending,
        "steps": status.steps,
        "halvings": status.halvings,
        "spanned": list(status.spanned),
        "statistics_sha256": hashlib.sha256(statistics.to_bytes()).hexdigest(),
        "counts": statistics.counts.tolist(),
    }


def agrees(classifier: Classifier, colour: str, expected: dict[str, Any]) -> bool:
    """Whether a prediction is the same, up to what another build of the interpreter may round differently."""
    prediction = classifier.predict(frame(colour, 900))
    return prediction.label == expected["label"] and abs(prediction.probability - expected["probability"]) < 0.02


def test_the_data_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 200_000


def test_the_bundle_opens_and_predicts_as_before(old: Path) -> None:
    classifier = Classifier(open_bundle(old / "colours.edgetl"), threads=1)
    assert all(agrees(classifier, colour, answer) for colour, answer in EXPECTED["shipped"].items())


def test_the_state_opens_with_its_history_and_statistics(learner: Learner) -> None:
    assert facts(learner) == EXPECTED["in effect"]
    assert [entry.to_dict() for entry in learner.history()] == EXPECTED["history"]


def test_the_state_predicts_as_before(learner: Learner) -> None:
    classifier = learner.classifier()
    assert all(agrees(classifier, colour, answer) for colour, answer in EXPECTED["predictions"].items())


@pytest.mark.parametrize("stored", [True, False], ids=["as it was stored", "solved again"])
def test_the_last_layer_is_the_same(old: Path, stored: bool) -> None:
    with Learner(old / "colours.edgetl", threads=1) as learner:
        if not stored:
            learner.teach_embeddings(embeddings(1, seed=6), "black")
            learner.undo()
        scores = learner.last_layer().scores(GRID * np.eye(16, dtype=np.int16))
    assert np.allclose(scores, EXPECTED["scores"], atol=1e-3)


def test_its_latest_step_is_undone_exactly(learner: Learner) -> None:
    learner.undo()
    expected = EXPECTED["before the last step"]
    assert facts(learner) == {**expected, "steps": expected["steps"] + 2}


def test_it_learns_on_and_undoes_that_exactly(learner: Learner) -> None:
    learner.teach(frame("grey", 2), "grey")
    assert learner.status().pictures["grey"]["taught"] == EXPECTED["in effect"]["pictures"]["grey"]["taught"] + 1
    learner.undo()
    assert facts(learner)["statistics_sha256"] == EXPECTED["in effect"]["statistics_sha256"]


def test_what_it_saw_while_running_still_counts_for_drift(learner: Learner) -> None:
    assert learner.drift().pictures > 0


def test_an_adaptation_is_still_in_effect(old: Path) -> None:
    with Learner(old / "colours.edgetl", old / "adapted.state", threads=1) as learner:
        assert facts(learner) == EXPECTED["adapted"]
        learner.undo()
        assert learner.status().spanned == ()


def test_the_patch_merges_into_a_new_state(old: Path) -> None:
    with Learner(old / "colours.edgetl", old / "new.state", threads=1) as learner:
        learner.merge(old / "taught.edgetl")
        assert sorted(learner.labels) == sorted(EXPECTED["in effect"]["labels"])
        assert learner.status().pictures == EXPECTED["in effect"]["pictures"]


def test_the_state_merges_into_a_new_one(old: Path) -> None:
    with Learner(old / "colours.edgetl", old / "new.state", threads=1) as learner:
        learner.merge(old / "colours.state")
        assert learner.status().pictures == EXPECTED["in effect"]["pictures"]
