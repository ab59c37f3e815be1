"""A device with a damaged journal goes on classifying."""

from __future__ import annotations

from pathlib import Path

from benchmarks.damaged_journals import survey
from edgetl.runtime import Learner
from edgetl.runtime.device.installation import install
from edgetl.runtime.device.slots import Slots
from tests.runtime.device.installing import Releases, teach_running
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


def test_a_damaged_journal_does_not_block_the_next_install(releases: Releases, tmp_path: Path) -> None:
    install(releases.first, tmp_path)
    with teach_running(tmp_path) as learner:
        learner.teach_embeddings(embeddings(5), "yellow")
        learner.teach_embeddings(embeddings(200, 1), "grey")
    current = Slots(tmp_path).current
    assert current is not None
    journal = current.state / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[-4096:] = bytes(4096)
    journal.write_bytes(content)
    assert install(releases.second, tmp_path).carried > 0
    with Learner(current.bundle, current.state, threads=1) as learner:
        (line,) = learner.status().set_aside
    assert "rows were recovered" in line
