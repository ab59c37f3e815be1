"""Learning needs no more than running does: numpy, Pillow, one interpreter and the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.runtime.learning.states import frame
from tests.runtime.test_device import BLOCKED, REPOSITORY

TEACH = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
import numpy
from edgetl.runtime import Learner
bundle, state, pictures, other = sys.argv[1:]
with Learner(bundle, state=state, threads=1, thumbnails=True) as learner:
    frames = numpy.load(pictures)
    learner.teach_many(frames[:3], "yellow", guard=1.0)
    wrong = learner.teach(frames[3], "red")
    learner.correct(wrong.id, "yellow")
    learner.undo()
    learner.forget(wrong.id)
    print(learner.classifier().predict(frames[4]).label)
    print(learner.drift().pictures)
    learner.teach_many(frames[:2], "red")
    if learner.adapt().id:
        learner.undo()
    learner.undo()
    learner.export_patch(other + ".patch")
    learner.export_bundle(other + ".edgetl")
with Learner(bundle, state=other) as learner:
    learner.merge(state, other + ".patch")
    print(learner.statistics().total, len(learner.history()), learner.effect().cost_points)
"""


def teach_with(python: str, bundle: Path, folder: Path) -> list[str]:
    np.save(folder / "pictures.npy", np.stack([frame("yellow", seed) for seed in range(5)]))
    ran = subprocess.run(
        [python, "-c", TEACH, str(bundle), str(folder / "state"), str(folder / "pictures.npy"), str(folder / "other")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_learning_imports_nothing_of_the_host(teachable: Path, tmp_path: Path) -> None:
    assert teach_with(sys.executable, teachable, tmp_path) == ["yellow", "1", "63", "5", "0.0"]


def test_learning_works_on_other_pythons(device_python: str, teachable: Path, tmp_path: Path) -> None:
    assert teach_with(device_python, teachable, tmp_path) == ["yellow", "1", "63", "5", "0.0"]
