"""The guard set estimates the effect of a step on the known classes, and can refuse the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetl.bundle import open_bundle, pack
from edgetl.errors import LearningError, OptionError
from edgetl.learners import to_grid
from edgetl.runtime import Learner
from tests.models import COLOURS, colour_frame
from tests.runtime.learning.states import GUARDED, TRAINED, embeddings, frame, shipped_statistics, trained_once


@pytest.fixture
def learner(teachable: Path, tmp_path: Path):
    with Learner(teachable, state=tmp_path / "state", threads=1) as learner:
        yield learner


def red_ones(learner: Learner, count: int) -> list[np.ndarray]:
    return [frame("red", seed) for seed in range(100, 100 + count)]


def test_a_harmless_step_costs_nothing(learner: Learner) -> None:
    step = learner.teach(frame("yellow"), "yellow", guard=1.0)
    assert step.accepted
    assert step.effect is not None
    assert step.effect.cost_points == 0
    assert step.effect.pictures == dict.fromkeys(COLOURS, GUARDED)


def test_a_step_that_costs_too_much_is_refused_with_its_rivalries_and_its_pictures_are_pending(
    learner: Learner, teachable: Path
) -> None:
    step = learner.teach_many(red_ones(learner, 40), "scarlet", guard=1.0)
    assert not step.accepted
    assert step.effect is not None
    assert step.effect.losers == ["red"]
    assert step.effect.cost_points > 1
    assert {(rivalry.label, rivalry.rival) for rivalry in step.effect.rivalries} == {("red", "scarlet")}
    assert learner.labels == ("blue", "green", "red")
    assert learner.statistics() == shipped_statistics(teachable)
    assert {entry.state for entry in learner.history()} == {"pending"}
    assert learner.status().pending == 40


def test_pending_pictures_are_accepted_with_the_next_step_that_passes(learner: Learner) -> None:
    refused = learner.teach_many(red_ones(learner, 40), "scarlet", guard=1.0)
    learner.forget_class("red")
    accepted = learner.teach(frame("red", 7), "scarlet", guard=1.0)
    assert accepted.accepted
    assert set(refused.pictures) < set(accepted.pictures)
    assert learner.status().pictures["scarlet"] == {"shipped": 0, "taught": 41}
    learner.undo()
    assert learner.status().pending == 40


def test_pending_pictures_can_be_corrected_and_forgotten(learner: Learner) -> None:
    first, second, *_ = learner.teach_many(red_ones(learner, 40), "scarlet", guard=1.0).pictures
    learner.forget(first)
    learner.correct(second, "red")
    assert learner.status().pending == 39
    assert learner.history()[1].now == "red"
    assert learner.teach_many([], "red", guard=1.0).pictures == (second,)


def test_the_effect_of_any_step_can_be_estimated_later(learner: Learner) -> None:
    harmful = learner.teach_many(red_ones(learner, 40), "scarlet")
    learner.teach(frame("yellow"), "yellow")
    assert harmful.effect is None
    assert learner.effect(harmful.id).losers == ["red"]
    assert learner.effect().cost_points == 0
    learner.undo()
    learner.undo()
    assert learner.effect().cost_points < 0
    with pytest.raises(LearningError, match="unknown step 999"):
        learner.effect(999)


def test_guard_pictures_are_predicted_by_a_layer_that_has_not_seen_them(learner: Learner, teachable: Path) -> None:
    """With the same statistics trained without the guard pictures, accuracy is the same to the last picture."""
    raw = embeddings(30)
    step = learner.teach_embeddings(raw, "noise", guard=100)
    learner.forget_class("green")
    bundle = open_bundle(teachable)
    zero_point = bundle.manifest.embedding["zero_point"]
    classifier = learner.classifier()
    guarded, labels, rest = [], [], shipped_statistics(teachable)
    for position, label in enumerate(COLOURS):
        for number in range(GUARDED):
            seed = position * TRAINED + number
            row = to_grid(classifier.embed(colour_frame(label, seed)), zero_point)
            guarded.append(row)
            labels.append(label)
            rest.remove(row, label)
    rest.add(to_grid(raw, zero_point), "noise")
    layer = learner._state.live_statistics.solve(rest, learner._state.projection().after(step.id))
    right = [layer.labels[int(layer.scores(row).argmax())] == label for row, label in zip(guarded, labels)]
    wanted = {label: np.mean([hit for hit, other in zip(right, labels) if other == label]) for label in COLOURS}
    assert step.effect is not None
    assert step.effect.after == pytest.approx(wanted)


def test_a_taught_class_is_evaluated_by_halves_of_its_own_pictures(learner: Learner) -> None:
    learner.teach(frame("grey"), "grey")
    assert learner.effect().taught == {}
    learner.teach_many([frame("yellow", seed) for seed in range(5)], "yellow")
    learner.teach_many([frame("grey", seed) for seed in range(1, 4)], "grey")
    learner.teach(frame("red"), "red")
    assert learner.effect().taught == {"grey": 1.0, "yellow": 1.0}


def test_a_class_of_mixed_pictures_has_a_low_accuracy(learner: Learner) -> None:
    learner.teach_many([frame(colour, seed) for seed in range(4) for colour in ("red", "green", "blue")], "mixed")
    assert learner.effect().taught["mixed"] < 0.7


def test_forgetting_or_renaming_a_class_costs_it_nothing(learner: Learner) -> None:
    learner.rename("red", "crimson")
    assert learner.effect().cost_points == 0
    assert set(learner.effect().after) == {"blue", "green", "crimson"}
    learner.forget_class("blue")
    assert set(learner.effect().after) == {"green", "crimson"}


@pytest.mark.parametrize("guard", [-1.0, 101.0, float("nan")])
def test_a_guard_must_be_a_number_of_points(learner: Learner, guard: float) -> None:
    with pytest.raises(OptionError, match="points of accuracy"):
        learner.teach(frame("red"), "red", guard=guard)


def test_without_a_guard_set_there_is_no_effect_and_a_guard_is_refused(teachable: Path, tmp_path: Path) -> None:
    bundle = open_bundle(teachable)
    entries = {name: bundle.read(name) for name in bundle.names if not name.startswith("guard/")}
    unguarded = pack(tmp_path / "unguarded.edgetl", bundle.manifest, entries)
    with Learner(unguarded, threads=1) as learner:
        step = learner.teach(frame("yellow"), "yellow")
        assert learner.effect(step.id) is None
        with pytest.raises(LearningError, match="no guard set"):
            learner.teach(frame("yellow"), "yellow", guard=1.0)


def test_hypothetical_pictures_leave_no_trace(learner: Learner, teachable: Path) -> None:
    raw = embeddings(6)
    for row in raw:
        learner.teach_embeddings(row, "yellow", guard=100)
    assert learner.statistics() == trained_once(teachable, {"yellow": raw})


def test_a_merge_that_costs_too_much_is_refused_and_adds_nothing(
    learner: Learner, teachable: Path, tmp_path: Path
) -> None:
    with Learner(teachable, state=tmp_path / "other", threads=1) as other:
        other.teach_many(red_ones(learner, 40), "scarlet")
    step = learner.merge(other.folder, guard=1.0)
    assert (step.id, step.accepted) == (0, False)
    assert step.effect is not None
    assert step.effect.losers == ["red"]
    assert learner.statistics() == shipped_statistics(teachable)
    assert learner.history() == []


def test_a_guard_lets_harmless_steps_pass(learner: Learner) -> None:
    learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
    assert learner.correct(2, "grey", guard=1.0).accepted
    assert learner.forget(2, guard=1.0).accepted
    assert learner.forget_class("yellow", guard=1.0).accepted
