"""A device with a damaged journal goes on classifying."""

from __future__ import annotations

from pathlib import Path

from benchmarks.damaged_journals import survey
from edgetl.runtime import Learner
from tests.runtime.learning.states import embeddings, frame, jpeg, teachable

__all__ = ["teachable"]


def test_every_device_with_a_damaged_journal_classifies(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path / "state", threads=1) as learner:
        for number in range(40):
            learner.teach_embeddings(embeddings(5, number), "yellow" if number % 2 else "grey")
        learner.publish()
    counts = survey(teachable, tmp_path / "state", jpeg(frame("red")), 60)
    assert counts["classify"] == 60, counts
    assert counts["set aside"] > 20
    assert counts["rows"] > 60 * 100
