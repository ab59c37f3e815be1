"""Any sequence of operations gives the statistics of training once on what remains."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetl.bundle import open_bundle
from edgetl.errors import LearningError
from edgetl.learners import Statistics, to_grid
from edgetl.runtime import Learner
from tests.runtime.learning.states import embeddings, shipped_statistics

LABELS = ("red", "green", "yellow", "grey")
MOVES = ("teach", "teach", "teach", "correct", "forget", "rename", "undo", "reopen")


class Model:
    """What should be in effect, as a plain list of all earlier states."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self.zero_point = open_bundle(bundle).manifest.embedding["zero_point"]
        self.states: list[tuple[dict[str, str], dict[int, tuple[str, bytes]]]] = [
            ({label: label for label in shipped_statistics(bundle).labels}, {})
        ]

    @property
    def names(self) -> dict[str, str]:
        return self.states[-1][0]

    @property
    def pictures(self) -> dict[int, tuple[str, bytes]]:
        return self.states[-1][1]

    @property
    def labels(self) -> set[str]:
        return {*self.names.values(), *(label for label, _ in self.pictures.values())}

    def change(self, names: dict[str, str] | None = None, pictures: dict | None = None) -> None:
        self.states.append((names or self.names, self.pictures if pictures is None else pictures))

    def trained_once(self) -> Statistics:
        shipped = shipped_statistics(self.bundle)
        statistics = Statistics(shipped.dimension)
        for number, label in enumerate(self.names):
            shipped.rename(label, f"between {number}")
        for number, label in enumerate(self.names.values()):
            shipped.rename(f"between {number}", label)
        statistics.merge(shipped)
        for label, data in self.pictures.values():
            statistics.add(to_grid(np.frombuffer(data, np.int8), self.zero_point), label)
        return statistics


def play(bundle: Path, state: Path, chance: random.Random, moves: int) -> tuple[Statistics, Statistics]:
    """The statistics of a learner after some moves, and those of training once on what remains."""
    model, learner, raw = Model(bundle), Learner(bundle, state=state), embeddings(moves, seed=chance.randrange(99))
    for number in range(moves):
        move, label = chance.choice(MOVES), chance.choice(LABELS)
        picture = chance.choice(list(model.pictures)) if model.pictures else None
        if move == "teach":
            step = learner.teach_embeddings(raw[number], label)
            model.change(pictures={**model.pictures, step.id: (label, raw[number].tobytes())})
        elif move == "correct" and picture is not None and model.pictures[picture][0] != label:
            learner.correct(picture, label)
            model.change(pictures={**model.pictures, picture: (label, model.pictures[picture][1])})
        elif move == "forget" and picture is not None:
            learner.forget(picture)
            model.change(pictures={key: value for key, value in model.pictures.items() if key != picture})
        elif move == "rename" and label in model.labels and "new" not in model.labels:
            learner.rename(label, "new")
            swap = {label: "new"}
            model.change(
                names={old: swap.get(now, now) for old, now in model.names.items()},
                pictures={key: (swap.get(now, now), data) for key, (now, data) in model.pictures.items()},
            )
        elif move == "undo" and len(model.states) > 1:
            learner.undo()
            model.states.pop()
        elif move == "reopen" and chance.random() < 0.2:
            learner.close()
            learner = Learner(bundle, state=state)
        if number % 7 == 0:
            learner.statistics()
    found = learner.statistics()
    learner.close()
    return found, model.trained_once()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False), moves=st.integers(1, 60))
def test_any_sequence_equals_training_once_on_what_remains(teachable: Path, chance: random.Random, moves: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, wanted = play(teachable, Path(folder), chance, moves)
    assert found == wanted


@pytest.mark.slow
def test_ten_thousand_operations_equal_training_once_on_what_remains(teachable: Path, tmp_path: Path) -> None:
    found, wanted = play(teachable, tmp_path, random.Random(4), 10_000)
    assert found == wanted


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(owners=st.lists(st.integers(0, 2), min_size=1, max_size=25), order=st.permutations([0, 1, 2]))
def test_any_split_over_devices_equals_one_device(teachable: Path, owners: list[int], order: list[int]) -> None:
    raw = embeddings(len(owners))
    with tempfile.TemporaryDirectory() as folder:
        devices = [Learner(teachable, state=Path(folder, str(number))) for number in range(3)]
        alone = Learner(teachable, state=Path(folder, "alone"))
        for number, owner in enumerate(owners):
            for learner in (devices[owner], alone):
                learner.teach_embeddings(raw[number], LABELS[number % len(LABELS)])
        for learner in devices:
            if learner.history():
                continue
            learner.teach_embeddings(raw[0], "red")
            learner.undo()
        gathered = devices[order[0]]
        gathered.merge(*(devices[number].folder for number in order[1:]))
        assert gathered.statistics() == alone.statistics()
        for learner in (*devices, alone):
            learner.close()


def test_the_weights_equal_those_of_training_once(teachable: Path, tmp_path: Path) -> None:
    raw = embeddings(30)
    with Learner(teachable, state=tmp_path / "detours") as learner:
        for row in raw:
            learner.teach_embeddings(row, "yellow")
            learner.last_layer()
        learner.teach_embeddings(raw, "grey")
        learner.forget_class("red")
        learner.undo()
        learner.undo()
        detours = learner.last_layer()
    with Learner(teachable, state=tmp_path / "once") as learner:
        learner.teach_embeddings(raw, "yellow")
        once = learner.last_layer()
    assert detours.labels == once.labels
    assert np.array_equal(detours.weights, once.weights)
    assert np.array_equal(detours.bias, once.bias)


def test_an_impossible_operation_changes_nothing(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path) as learner:
        learner.teach_embeddings(embeddings(1)[0], "yellow")
        before = learner.statistics()
        for impossible in (lambda: learner.forget(7), lambda: learner.rename("yellow", "red")):
            with pytest.raises(LearningError):
                impossible()
        assert learner.statistics() == before
