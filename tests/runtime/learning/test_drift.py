"""A learner reports whether its pictures still look like those it learned from, and never disturbs prediction."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import zlib
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import pytest

from edgetl.bundle import open_bundle, pack
from edgetl.learners.drift import CHANGED, STABLE, UNKNOWN
from edgetl.runtime import Learner
from edgetl.runtime.inference.classifier import Prediction
from edgetl.runtime.learning.observation_log import OBSERVATIONS_FILE, WINDOW_PICTURES, ObservationLog
from tests.models import COLOURS, colour_frame
from tests.runtime.learning.states import frame

DIMENSION = 16


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def learner(teachable: Path, state: Path):
    with Learner(teachable, state=state, threads=1) as learner:
        yield learner


def classify(learner: Learner, count: int = 30, change=lambda picture: picture, seed: int = 1000) -> None:
    labels = list(COLOURS)
    for number in range(count):
        learner.classifier().predict(change(colour_frame(labels[number % 3], seed + number)))


def inverted(picture: np.ndarray) -> np.ndarray:
    return 255 - picture


def test_pictures_like_those_learned_are_stable(learner: Learner) -> None:
    classify(learner)
    drift = learner.drift()
    assert (drift.verdict, drift.pictures) == (STABLE, 30)
    assert set(drift.signals) == {"shift", "novelty", "confidence"}
    assert learner.status().drift == drift
    assert learner.status().to_dict()["drift"]["signals"]["novelty"]["value"] < 0.7


def test_pictures_unlike_anything_are_a_change(learner: Learner) -> None:
    classify(learner, change=inverted)
    drift = learner.drift()
    assert drift.verdict == CHANGED
    assert drift.signals["novelty"].severity == 2


def test_too_few_pictures_give_no_verdict(learner: Learner) -> None:
    assert learner.drift().pictures == 0
    classify(learner, 19)
    drift = learner.drift()
    assert (drift.verdict, drift.pictures, drift.signals) == (UNKNOWN, 19, {})


def test_a_still_scene_counts_once(learner: Learner) -> None:
    for _ in range(40):
        learner.classifier().predict(frame("red"))
    assert learner.drift().pictures == 1


def test_it_starts_again_after_each_learning_step(learner: Learner) -> None:
    classify(learner, change=inverted)
    for label in COLOURS:
        learner.teach_many([inverted(colour_frame(label, seed)) for seed in range(40)], label)
    assert learner.drift().verdict == UNKNOWN
    learner.adapt()
    classify(learner, change=inverted)
    assert learner.drift().signals["shift"].value < 0.15


def test_the_window_holds_the_newest_pictures(learner: Learner) -> None:
    classify(learner, WINDOW_PICTURES + 50, change=inverted)
    learner._observations.flush()
    classify(learner, WINDOW_PICTURES, seed=5000)
    assert WINDOW_PICTURES <= learner.drift().pictures < WINDOW_PICTURES + 20
    assert learner.drift().verdict == STABLE


def test_pictures_classified_by_other_processes_count(learner: Learner, teachable: Path) -> None:
    classify(learner)
    learner.close()
    with Learner(teachable, state=learner.folder, threads=1) as again:
        assert again.drift().pictures == 30
        classify(again, seed=3000)
        assert again.drift().pictures == 60


def test_single_pictures_of_many_processes_add_up(teachable: Path, state: Path) -> None:
    for seed in range(22):
        with Learner(teachable, state=state, threads=1) as learner:
            classify(learner, 1, seed=seed)
    with Learner(teachable, state=state, threads=1) as learner:
        assert learner.drift().pictures == 22


def test_nothing_is_stored_if_observing_is_off(teachable: Path, state: Path) -> None:
    with Learner(teachable, state=state, threads=1, observe=False) as learner:
        classify(learner)
        assert learner.drift().pictures == 0
    assert not (state / OBSERVATIONS_FILE).exists()


def test_it_works_without_creating_a_state(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path / "none", threads=1) as learner:
        classify(learner)
        assert learner.drift().verdict == STABLE
    assert not (tmp_path / "none").exists()


def test_without_a_guard_set_novelty_is_compared_with_its_calibration(teachable: Path, state: Path) -> None:
    bundle = open_bundle(teachable)
    entries = {name: bundle.read(name) for name in bundle.names if not name.startswith("guard/")}
    unguarded = pack(state.parent / "unguarded.edgetl", bundle.manifest, entries)
    with Learner(unguarded, state=state, threads=1) as learner:
        classify(learner, change=inverted)
        drift = learner.drift()
        assert drift.verdict == CHANGED
        assert set(drift.signals) == {"shift", "novelty"}


def test_blocks_of_an_earlier_kind_do_not_count(learner: Learner, state: Path) -> None:
    classify(learner)
    learner._observations.flush()
    with sqlite3.connect(state / OBSERVATIONS_FILE) as connection:
        connection.execute("UPDATE block SET sums = ? WHERE id = 1", [zlib.compress(bytes(8 * 5))])
    connection.close()
    assert learner.drift().pictures == 10


@pytest.mark.parametrize("content", [b"not a database at all" * 99, b"SQLite format 3\0" + bytes(5000), b""])
def test_a_damaged_file_is_started_again(learner: Learner, state: Path, content: bytes) -> None:
    (state / OBSERVATIONS_FILE).write_bytes(content)
    classify(learner)
    assert learner.drift().pictures == 30
    learner._observations.flush()
    learner._observations.flush()
    assert learner.drift().pictures == 30
    with sqlite3.connect(state / OBSERVATIONS_FILE) as connection:
        connection.execute("UPDATE block SET sums = X'00'")
    connection.close()
    assert learner.drift().pictures == 0


def test_an_error_of_the_disk_does_not_disturb_classifying(learner: Learner, state: Path) -> None:
    (state / OBSERVATIONS_FILE).mkdir()
    classify(learner)
    learner._observations.flush()
    assert learner.drift().pictures == 30
    shutil.rmtree(state / OBSERVATIONS_FILE)
    learner._observations.flush()
    assert (state / OBSERVATIONS_FILE).is_file()
    assert learner.drift().pictures == 30


def test_a_kill_during_a_write_leaves_the_file_readable(state: Path) -> None:
    for number in range(10):
        child = os.fork()
        if not child:
            _observe_for_ever(state)
        sleep(0.02 + 0.003 * number)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        window = ObservationLog(state, "digest", DIMENSION).window(0)
    assert window is not None
    assert window.pictures > 0


def _observe_for_ever(state: Path) -> None:
    observations, chance = ObservationLog(state, "digest", DIMENSION), np.random.default_rng()
    while True:
        observations.observe(chance.integers(-1000, 1000, DIMENSION).astype(np.int16), _prediction(), 0)
        observations.flush()


def test_observing_takes_microseconds(state: Path) -> None:
    observations, rows = ObservationLog(state, "digest", 1280), np.random.default_rng(0).integers(0, 300, (400, 1280))
    prediction, seconds = _prediction(), []
    for row in rows.astype(np.int16):
        started = perf_counter()
        observations.observe(row, prediction, 0)
        seconds.append(perf_counter() - started)
    assert np.median(seconds) < 5e-5


def _prediction() -> Prediction:
    return Prediction("red", 0.9, {"red": 0.9, "blue": 0.1}, 0.5, False, {"total": 1.0})
