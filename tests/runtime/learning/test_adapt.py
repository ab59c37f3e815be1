"""A learner adapts to new conditions, reversibly: only weights change, and only on this device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetl.bundle import open_bundle
from edgetl.errors import LearningError
from edgetl.runtime import Classifier, Learner
from tests.runtime.learning.states import MIXTURES, frame, shipped_statistics

SWAPPED = {"red": "green", "green": "blue", "blue": "red"}
"""Everything has changed: each class looks as another one did."""


@pytest.fixture
def learner(teachable: Path, tmp_path: Path):
    with Learner(teachable, state=tmp_path / "state", threads=1) as learner:
        yield learner


def teach_swapped(learner: Learner, count: int = 8) -> None:
    for label, look in SWAPPED.items():
        learner.teach_many([frame(look, seed) for seed in range(count)], label)


def dark(label: str, seed: int) -> np.ndarray:
    """A frame without much light; the sensor's noise stays as it is."""
    noise = np.random.default_rng(seed).integers(0, 90, (32, 32, 3))
    return (noise + 0.15 * 150 * np.array(MIXTURES[label])).astype(np.uint8)


def answers(learner: Learner) -> list[dict[str, float]]:
    return [learner.classifier().predict(frame(look, 99)).probabilities for look in SWAPPED.values()]


def test_it_follows_new_conditions_and_undo_restores_everything(learner: Learner) -> None:
    teach_swapped(learner)
    statistics, layer, before = learner.statistics(), learner.last_layer(), answers(learner)
    step = learner.adapt()
    assert step.adaptation is not None
    assert step.adaptation.after > step.adaptation.before
    assert [learner.classifier().predict(frame(look, 99)).label for look in SWAPPED.values()] == list(SWAPPED)
    assert learner.statistics() == statistics
    learner.undo()
    assert answers(learner) == before
    assert np.array_equal(learner.last_layer().weights, layer.weights)


def test_if_everything_is_only_darker_old_and_new_conditions_hold_alike(learner: Learner) -> None:
    for label in SWAPPED:
        learner.teach_many([dark(label, seed) for seed in range(2)], label)
    step = learner.adapt(guard=1.0)
    assert step.accepted
    assert set(step.adaptation.spanned) == set(SWAPPED)
    for look in (frame, dark):
        assert [learner.classifier().predict(look(label, 99)).label for label in SWAPPED] == list(SWAPPED)
    assert not learner.adapt().id
    learner.rename("red", "crimson")
    assert set(learner.status().spanned) == {"crimson", "green", "blue"}
    assert learner.status().halvings == {}
    assert "spanned" in learner.status().to_dict()
    learner.undo()
    learner.undo()
    assert learner.status().spanned == ()


def test_it_is_in_effect_when_the_state_is_opened_again(learner: Learner, teachable: Path) -> None:
    teach_swapped(learner)
    learner.adapt()
    wanted = learner.last_layer()
    with Learner(teachable, state=learner.folder, threads=1) as again:
        assert np.array_equal(again.last_layer().weights, wanted.weights)
        assert {entry.kind for entry in again.history()[-3:]} == {"adapt"}
        assert not again.adapt().id


def test_nothing_is_recorded_if_nothing_helps(learner: Learner) -> None:
    for label in SWAPPED:
        learner.teach_many([frame(label, seed) for seed in range(4)], label)
    before = len(learner.history())
    step = learner.adapt()
    assert (step.id, step.adaptation.helps) == (0, False)
    assert len(learner.history()) == before


def test_without_pictures_of_a_shipped_class_it_is_refused(learner: Learner) -> None:
    with pytest.raises(LearningError, match="nothing was taught of a shipped class"):
        learner.adapt()
    learner.teach(frame("yellow"), "yellow")
    with pytest.raises(LearningError, match="nothing was taught of a shipped class"):
        learner.adapt()
    assert [entry.kind for entry in learner.history()] == ["teach"]


def test_the_guard_refuses_what_costs_too_much_under_the_old_conditions(learner: Learner) -> None:
    teach_swapped(learner)
    step = learner.adapt(guard=1.0)
    assert not step.accepted
    assert step.effect.cost_points > 1
    assert "adapt" not in {entry.kind for entry in learner.history()}
    assert learner.adapt(guard=100).accepted
    assert learner.effect().cost_points == step.effect.cost_points


def test_it_follows_a_renamed_class_and_ends_with_a_reset(learner: Learner, teachable: Path) -> None:
    teach_swapped(learner)
    learner.adapt()
    learner.rename("red", "crimson")
    assert learner.classifier().predict(frame("green", 99)).label == "crimson"
    learner.reset()
    assert learner.statistics() == shipped_statistics(teachable)
    teach_swapped(learner)
    plain = learner.last_layer()
    assert learner.adapt().id
    assert not np.array_equal(learner.last_layer().weights, plain.weights)


def test_a_class_whose_taught_pictures_are_all_forgotten_has_its_full_weight_again(learner: Learner) -> None:
    teach_swapped(learner)
    learner.adapt()
    for entry in learner.history():
        if entry.kind == "teach":
            learner.forget(entry.id)
    shipped = learner._state.live_statistics.shipped_layer
    assert learner.classifier().predict(frame("red", 99)).label == "red"
    assert np.allclose(learner.last_layer().weights, shipped.weights)


def test_it_is_not_transferred_to_other_devices(learner: Learner, teachable: Path, tmp_path: Path) -> None:
    teach_swapped(learner)
    plain = learner.last_layer()
    learner.adapt()
    patch = learner.export_patch(tmp_path / "taught.patch")
    for number, source in enumerate((patch, learner.folder)):
        with Learner(teachable, state=tmp_path / str(number), threads=1) as other:
            other.merge(source)
            assert np.array_equal(other.last_layer().weights, plain.weights)


def test_it_stays_in_effect_after_a_merge(learner: Learner, teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path / "other", threads=1) as other:
        other.teach(frame("yellow"), "yellow")
    teach_swapped(learner)
    learner.adapt()
    learner.merge(tmp_path / "other")
    assert learner.classifier().predict(frame("yellow", 5)).label == "yellow"
    assert learner.classifier().predict(frame("green", 99)).label == "red"


def test_a_bundle_that_learns_cannot_contain_it_and_a_frozen_one_does(learner: Learner, tmp_path: Path) -> None:
    teach_swapped(learner)
    learner.adapt()
    with pytest.raises(LearningError, match="cannot contain an adaptation"):
        learner.export_bundle(tmp_path / "learning.edgetl")
    frozen = learner.export_bundle(tmp_path / "frozen.edgetl", frozen=True)
    assert "statistics.bin" not in open_bundle(frozen)
    assert Classifier(frozen, threads=1).predict(frame("green", 99)).label == "red"
