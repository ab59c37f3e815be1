"""Killed in the middle of teaching, an emulated Raspberry Pi has lost nothing that it acknowledged."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from edgetl.runtime import Learner
from edgetl.runtime.learning import Journal
from tests.emulation.process import EmulatedPython
from tests.runtime.learning.states import frame, trained_once

pytestmark = pytest.mark.slow

TEACH = """
import sys
import numpy
from edgetl.runtime import Learner
bundle, state, frames = sys.argv[1:]

def tell(step):
    print(step.id, step.kind, flush=True)
    return step

with Learner(bundle, state=state, threads=1) as learner:
    while True:
        for frame in numpy.load(frames):
            picture = tell(learner.teach(frame, "yellow")).id
            tell(learner.teach(frame, "grey"))
            tell(learner.correct(picture, "lemon"))
            tell(learner.undo())
            tell(learner.forget(picture))
"""

UNDO = """
import sys
from edgetl.runtime import Learner
with Learner(sys.argv[1], state=sys.argv[2], threads=1) as learner:
    print(learner.undo().subject)
"""

KILLS = 5
LONGEST_SECONDS = 0.4


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(
    arm64: EmulatedPython, teachable: Path, tmp_path: Path
) -> None:
    state, frames, chance = tmp_path / "state", tmp_path / "frames.npy", random.Random(3)
    np.save(frames, np.stack([frame("yellow", seed) for seed in range(20)]))
    acknowledged: dict[int, str] = {}
    for _ in range(KILLS):
        acknowledged |= _teach_until_killed(arm64, chance.uniform(0, LONGEST_SECONDS), teachable, state, frames)
        with Learner(teachable, state=state) as learner:
            assert acknowledged.items() <= {entry.id: entry.kind for entry in learner.history()}.items()
            assert learner.statistics() == trained_once(teachable, _taught(learner))
    undone = arm64.run("-c", UNDO, teachable, state)
    assert undone.returncode == 0, undone.stderr
    with Learner(teachable, state=state) as learner:
        assert learner.history()[-1].subject == int(undone.stdout)
        assert learner.statistics() == trained_once(teachable, _taught(learner))


def _teach_until_killed(emulated: EmulatedPython, seconds: float, *arguments: Path) -> dict[int, str]:
    """What it acknowledged, kinds by id, until the kill; the time counts from the first of them."""
    with emulated.start("-c", TEACH, *arguments) as teaching:
        assert teaching.stdout is not None
        first = teaching.stdout.readline()
        time.sleep(seconds)
        teaching.kill()
        lines = [first, *teaching.stdout]
    assert teaching.returncode == -signal.SIGKILL
    told = [line.split() for line in lines if line.endswith("\n")]
    assert told, "it ended before it taught anything"
    return {int(number): kind for number, kind in told}


def _taught(learner: Learner) -> dict[str, np.ndarray]:
    """The embeddings (n, d) in effect by label, as the rows of the journal say."""
    entries = [entry for entry in learner.history() if entry.kind == "teach" and entry.state == "in effect"]
    labels = {entry.id: str(entry.now) for entry in entries}
    journal = Journal(learner.folder)
    stored = journal.embeddings(list(labels))
    journal.close()
    return {
        label: np.stack([np.frombuffer(stored[key], np.int8) for key, other in labels.items() if other == label])
        for label in set(labels.values())
    }
