"""A learner teaches, corrects, forgets and undoes, exactly; its classifier follows at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetl.errors import ImageError, LearningError
from edgetl.runtime import Classifier, Learner
from edgetl.runtime.stream.sources import Source
from tests.runtime.learning.states import embeddings, frame, jpeg, shipped_statistics, trained_once


@pytest.fixture
def learner(teachable: Path, tmp_path: Path):
    with Learner(teachable, state=tmp_path / "state", threads=1) as learner:
        yield learner


def test_a_new_class_is_known_from_the_first_picture(learner: Learner) -> None:
    classifier = learner.classifier()
    assert classifier.predict(frame("yellow")).label != "yellow"
    step = learner.teach(frame("yellow", 1), "yellow")
    assert step.kind == "teach"
    assert step.pictures == (step.id,)
    assert classifier.predict(frame("yellow", 2)).label == "yellow"
    assert classifier.predict(frame("red", 3)).label == "red"
    assert classifier.labels == ("blue", "green", "red", "yellow")


def test_before_any_step_it_predicts_as_shipped(learner: Learner, teachable: Path) -> None:
    shipped, own = Classifier(teachable, threads=1), learner.classifier()
    assert own.predict(frame("red")).probabilities == shipped.predict(frame("red")).probabilities
    assert learner.statistics() == shipped_statistics(teachable)


def test_teaching_equals_training_once_on_everything(learner: Learner, teachable: Path) -> None:
    raw = embeddings(7)
    for row in raw[:4]:
        learner.teach_embeddings(row, "yellow")
    learner.teach_embeddings(raw[4:], "red")
    assert learner.statistics() == trained_once(teachable, {"yellow": raw[:4], "red": raw[4:]})


@pytest.mark.parametrize("thumbnails", [False, True], ids=["without thumbnails", "with thumbnails"])
def test_a_picture_sent_as_bytes_is_learned_like_its_file(teachable: Path, tmp_path: Path, thumbnails: bool) -> None:
    (tmp_path / "large.jpg").write_bytes(jpeg(np.kron(frame("yellow"), np.ones((20, 20, 1), np.uint8))))
    source = Source("/photos/large.jpg", (tmp_path / "large.jpg").read_bytes())
    with Learner(teachable, tmp_path / "sent", threads=1, thumbnails=thumbnails) as sent:
        sent.teach_many([source], "yellow")
        assert sent.history()[0].source == "/photos/large.jpg"
        with pytest.raises(ImageError, match="cannot read /photos/broken"):
            sent.teach_many([Source("/photos/broken.jpg", b"none")], "yellow")
        with Learner(teachable, tmp_path / "file", threads=1, thumbnails=thumbnails) as here:
            here.teach(tmp_path / "large.jpg", "yellow")
            assert here.statistics() == sent.statistics()


def test_a_correction_moves_a_picture_to_another_class(learner: Learner, teachable: Path) -> None:
    raw = embeddings(2)
    learner.teach_embeddings(raw[0], "yellow")
    mistaken = learner.teach_embeddings(raw[1], "red")
    learner.correct(mistaken.id, "yellow")
    assert learner.statistics() == trained_once(teachable, {"yellow": raw})
    assert learner.history()[1].now == "yellow"


def test_a_forgotten_picture_leaves_no_trace(learner: Learner, teachable: Path) -> None:
    kept, gone = embeddings(2)
    learner.teach_embeddings(kept, "yellow")
    learner.forget(learner.teach_embeddings(gone, "yellow").id)
    assert learner.statistics() == trained_once(teachable, {"yellow": kept[np.newaxis]})


def test_an_id_may_be_a_numpy_integer(learner: Learner, teachable: Path) -> None:
    raw = embeddings(2)
    learner.teach_embeddings(raw, "yellow")
    learner.correct(np.int64(1), "red")
    learner.forget(np.int32(2))
    assert learner.statistics() == trained_once(teachable, {"red": raw[:1]})


def test_a_taught_class_is_forgotten_without_trace(learner: Learner, teachable: Path) -> None:
    learner.teach_embeddings(embeddings(3), "yellow")
    learner.forget_class("yellow")
    assert learner.labels == ("blue", "green", "red")
    assert learner.statistics() == shipped_statistics(teachable)


def test_a_forgotten_shipped_class_does_not_compete_until_that_is_undone(learner: Learner) -> None:
    classifier = learner.classifier()
    before = classifier.predict(frame("red")).probabilities
    learner.forget_class("red")
    assert classifier.labels == ("blue", "green")
    assert classifier.predict(frame("red")).label != "red"
    learner.undo()
    assert classifier.predict(frame("red")).probabilities == before


def test_a_forgotten_class_can_be_taught_again_under_its_old_name(learner: Learner) -> None:
    learner.forget_class("red")
    learner.teach_many([frame("yellow", seed) for seed in range(4)], "red")
    assert learner.classifier().predict(frame("yellow", 9)).label == "red"
    assert learner.status().pictures["red"] == {"shipped": 0, "taught": 4}


def test_a_renamed_class_learns_on(learner: Learner, teachable: Path) -> None:
    raw = embeddings(2)
    learner.teach_embeddings(raw[0], "red")
    learner.rename("red", "crimson")
    learner.teach_embeddings(raw[1], "crimson")
    wanted = trained_once(teachable, {"red": raw})
    wanted.rename("red", "crimson")
    assert learner.statistics() == wanted
    assert learner.labels == ("blue", "green", "crimson")


def test_a_label_is_the_same_class_however_it_is_typed(learner: Learner) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    learner.teach_embeddings(embeddings(1)[0], f" {decomposed} ")
    learner.teach(frame("yellow"), composed)
    learner.correct(learner.teach(frame("yellow"), "red").id, decomposed)
    assert learner.labels == ("blue", "green", "red", composed)
    learner.rename(decomposed, " tea ")
    assert learner.labels[-1] == "tea"
    with pytest.raises(LearningError, match="invalid label ' '"):
        learner.teach(frame("yellow"), " ")


def test_two_classes_can_exchange_their_names(learner: Learner, teachable: Path) -> None:
    learner.rename("red", "aside")
    learner.rename("blue", "red")
    learner.rename("aside", "blue")
    wanted = shipped_statistics(teachable)
    wanted.rename("red", "aside")
    wanted.rename("blue", "red")
    wanted.rename("aside", "blue")
    assert learner.statistics() == wanted


def test_undo_reverses_steps_one_by_one_exactly(learner: Learner, teachable: Path) -> None:
    states = [learner.statistics()]
    for act in (
        lambda: learner.teach_embeddings(embeddings(3), "yellow"),
        lambda: learner.correct(2, "red"),
        lambda: learner.rename("yellow", "lemon"),
        lambda: learner.forget(1),
        lambda: learner.forget_class("blue"),
        lambda: learner.reset(),
    ):
        act()
        states.append(learner.statistics())
    while len(states) > 1:
        assert learner.statistics() == states.pop()
        learner.undo()
    assert learner.statistics() == states.pop()
    with pytest.raises(LearningError, match="nothing to undo"):
        learner.undo()


def test_one_undo_reverses_all_pictures_of_a_step(learner: Learner, teachable: Path) -> None:
    learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
    learner.undo()
    assert learner.labels == ("blue", "green", "red")


def test_a_reset_returns_to_what_was_shipped_and_keeps_the_history(learner: Learner, teachable: Path) -> None:
    learner.teach(frame("yellow"), "yellow")
    learner.reset()
    assert learner.statistics() == shipped_statistics(teachable)
    assert [(entry.kind, entry.state) for entry in learner.history()] == [
        ("teach", "forgotten"),
        ("reset", "in effect"),
    ]
    learner.undo()
    assert "yellow" in learner.labels


def test_the_history_shows_what_became_of_every_picture(learner: Learner, tmp_path: Path) -> None:
    learner.teach_embeddings(embeddings(2), "yellow")
    learner.correct(1, "red")
    learner.forget(2)
    learner.undo()
    entries = [(entry.id, entry.kind, entry.state, entry.now) for entry in learner.history()]
    assert entries == [
        (1, "teach", "in effect", "red"),
        (2, "teach", "in effect", "yellow"),
        (3, "correct", "in effect", None),
        (4, "forget", "undone", None),
        (5, "undo", "in effect", None),
    ]


def test_everything_is_in_effect_when_the_state_is_opened_again(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path, threads=1) as learner:
        learner.teach_many([frame("yellow", seed) for seed in range(3)], "yellow")
        learner.rename("red", "crimson")
        statistics, answer = learner.statistics(), learner.classifier().predict(frame("yellow", 7))
    with Learner(teachable, state=tmp_path, threads=1) as learner:
        again = learner.classifier().predict(frame("yellow", 7))
        assert again.probabilities == answer.probabilities
        assert learner.statistics() == statistics


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda learner: learner.correct(99, "red"), "unknown picture 99: no picture with this id was taught here"),
        (lambda learner: learner.forget(99), "unknown picture 99: no picture with this id was taught here"),
        (lambda learner: learner.forget_class("pink"), "unknown class 'pink'; choose blue, green, red"),
        (lambda learner: learner.rename("pink", "rose"), "unknown class 'pink'; choose blue, green, red"),
        (lambda learner: learner.rename("red", "blue"), "class 'blue' already exists"),
        (lambda learner: learner.teach(frame("red"), ""), "invalid label ''"),
        (lambda learner: learner.teach(frame("red"), "a\nb"), "control characters"),
        (lambda learner: learner.teach_many([], "red"), "no picture to teach 'red' with"),
        (lambda learner: learner.teach_embeddings(np.zeros(3, np.int8), "red"), r"must be int8 \(16,\)"),
        (lambda learner: learner.merge(), "nothing to merge"),
    ],
)
def test_an_impossible_operation_is_refused_in_one_line_and_changes_nothing(
    learner: Learner, act, complaint: str
) -> None:
    with pytest.raises(LearningError, match=complaint):
        act(learner)
    assert learner.history() == []


def test_an_unreadable_picture_stops_the_step_unless_it_may_be_skipped(learner: Learner) -> None:
    pictures = [frame("yellow"), b"no image", frame("yellow", 1)]
    with pytest.raises(ImageError):
        learner.teach_many(pictures, "yellow")
    assert learner.history() == []
    passed_over: list[ImageError] = []
    assert len(learner.teach_many(pictures, "yellow", on_unreadable=passed_over.append).pictures) == 2
    assert len(passed_over) == 1


def test_a_state_belongs_to_its_bundle(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path / "state", threads=1) as learner:
        learner.rename("red", "crimson")
        other = learner.export_bundle(tmp_path / "other.edgetl")
    with pytest.raises(LearningError, match="belongs to another bundle"):
        Learner(other, state=tmp_path / "state")


def test_the_state_is_beside_the_bundle_by_default(teachable: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "mine.edgetl"
    bundle.write_bytes(teachable.read_bytes())
    with Learner(bundle, threads=1) as learner:
        learner.teach(frame("yellow"), "yellow")
        assert learner.folder == tmp_path / "mine.state"
    assert (tmp_path / "mine.state" / "journal.sqlite").is_file()
