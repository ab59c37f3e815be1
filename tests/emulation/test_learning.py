"""An emulated Raspberry Pi learns exactly: what it was taught is the same there, here, and after undoing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.runtime import Learner
from tests.emulation.process import EmulatedPython
from tests.runtime.learning.states import embeddings, frame, shipped_statistics, trained_once
from tests.runtime.test_device import REPOSITORY

pytestmark = pytest.mark.slow

DIGESTS = """
import hashlib, random, sys
import numpy
from edgetl.runtime import Learner

def tell(learner):
    digest = hashlib.sha256(learner.statistics().to_bytes()).hexdigest()
    print(digest, len(learner.history()), *learner.labels, flush=True)
"""

PLAY = f"""{DIGESTS}
bundle, state, rows = sys.argv[1:]
chance = random.Random(6)
with Learner(bundle, state=state, threads=1) as learner:
    for row in numpy.load(rows):
        picture = learner.teach_embeddings(row, chance.choice(["red", "yellow", "grey"])).id
        move = chance.random()
        if move < 0.2:
            learner.correct(picture, "violet")
        elif move < 0.4:
            learner.forget(picture)
        elif move < 0.6:
            learner.undo()
        tell(learner)
"""
"""Teaches, corrects, forgets and undoes the same on every machine; tells the statistics after each picture."""

GO_ON = f"""{DIGESTS}
bundle, state = sys.argv[1:]
with Learner(bundle, state=state, threads=1) as learner:
    tell(learner)
    learner.rename("yellow", "lemon")
    tell(learner)
    learner.undo()
    tell(learner)
    learner.reset()
    tell(learner)
"""


def here(code: str, *arguments: object) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def there(emulated: EmulatedPython, code: str, *arguments: object) -> list[str]:
    ran = emulated.run("-c", code, *arguments)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def edgetl(emulated: EmulatedPython, *arguments: object) -> dict:
    ran = emulated.run("-m", "edgetl", *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_class_is_taught_there_and_undone_as_if_it_had_never_been(
    emulated: EmulatedPython, teachable: Path, tmp_path: Path
) -> None:
    for seed in range(3):
        Image.fromarray(frame("yellow", seed)).save(tmp_path / f"{seed}.png")
    state = ("--state", tmp_path / "state")
    taught = edgetl(emulated, "teach", teachable, "yellow", tmp_path / "0.png", tmp_path / "1.png", *state)
    assert taught["pictures"] == [1, 2]
    assert edgetl(emulated, "run", teachable, "--source", tmp_path / "2.png", *state)["label"] == "yellow"
    with Learner(teachable, state=tmp_path / "state") as learner:
        assert learner.labels == ("blue", "green", "red", "yellow")
        assert learner.classifier().predict(tmp_path / "2.png").label == "yellow"
        assert learner.statistics() != shipped_statistics(teachable)
    edgetl(emulated, "undo", teachable, *state)
    with Learner(teachable, state=tmp_path / "state") as learner:
        assert learner.statistics() == shipped_statistics(teachable)


def test_the_same_steps_give_the_same_bits_and_a_state_goes_on_elsewhere(
    emulated: EmulatedPython, teachable: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.npy"
    np.save(rows, embeddings(40))
    played_here = here(PLAY, teachable, tmp_path / "from here", rows)
    assert there(emulated, PLAY, teachable, tmp_path / "from there", rows) == played_here
    went_on_here = here(GO_ON, teachable, tmp_path / "from there")
    assert there(emulated, GO_ON, teachable, tmp_path / "from here") == went_on_here
    assert went_on_here[0] == played_here[-1]
    with Learner(teachable, state=tmp_path / "from here") as learner:
        assert learner.statistics() == trained_once(teachable, {})
