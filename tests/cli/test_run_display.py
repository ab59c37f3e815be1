"""If only changes are printed, a log stays short however many images there are, and every image is counted."""

from __future__ import annotations

from typing import Any

import pytest

from edgetl.cli.run_display import MIN_CHANGE_SECONDS, SUMMARY_SECONDS, Changes
from edgetl.errors import ImageError
from edgetl.runtime import Prediction


class Log:
    """The names that were shown, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shown: list[str] = []
        self.summaries: list[dict[str, Any]] = []
        self.changes = Changes(self, lambda: self.now)

    def show(self, name: str, prediction: Prediction) -> None:
        self.shown.append(name)

    def report_error(self, name: str, error: ImageError) -> None:
        self.shown.append(str(error))

    def sum_up(self, summary: dict[str, Any]) -> None:
        self.summaries.append(summary)

    def see(self, name: str, label: str, is_novel: bool = False, after: float = MIN_CHANGE_SECONDS) -> None:
        self.now += after
        self.changes.show(name, Prediction(label, 1.0, {label: 1.0}, float(is_novel), is_novel, {"total": 1.0}))


@pytest.fixture
def log() -> Log:
    return Log()


def test_another_label_and_novelty_are_changes(log: Log) -> None:
    for name, label, is_novel in [
        ("first", "cat", False),
        ("same", "cat", False),
        ("novel", "cat", True),
        ("known", "cat", False),
        ("other", "dog", False),
    ]:
        log.see(name, label, is_novel)
    assert log.shown == ["first", "novel", "known", "other"]


def test_a_label_that_flickers_is_told_once_a_second(log: Log) -> None:
    for number in range(100):
        log.see(str(number), "cat" if number % 2 else "dog", after=MIN_CHANGE_SECONDS / 10)
    assert len(log.shown) <= 11


def test_what_stays_is_told_although_it_came_too_soon(log: Log) -> None:
    log.see("first", "cat")
    log.see("soon", "dog", after=0.1)
    log.see("stayed", "dog")
    assert log.shown == ["first", "stayed"]


def test_every_hour_all_images_are_summed_up(log: Log) -> None:
    log.changes.report_error("broken", ImageError("cannot read it"))
    for _ in range(3):
        log.see("cat", "cat", is_novel=True, after=SUMMARY_SECONDS / 2)
    (summary,) = log.summaries
    assert summary == {"seconds": SUMMARY_SECONDS, "images": 2, "labels": {"cat": 2}, "novel": 2, "unread": 1}
    with log.changes:
        pass
    assert log.summaries[1]["images"] == 1
