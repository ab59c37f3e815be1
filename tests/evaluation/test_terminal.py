from __future__ import annotations

import io

from rich.console import Console

from edgetl.evaluation import Report, render_evaluation, render_terminal
from tests.evaluation.conftest import bare_report, full_report


def printed(report: Report, terminal: bool = False) -> str:
    stream = io.StringIO()
    render_terminal(report, Console(file=stream, width=160, force_terminal=terminal))
    return stream.getvalue()


def test_the_summary_says_what_it_is_worth_and_what_to_do_next(report: Report) -> None:
    text = printed(report)

    for part in ("birch, maple and oak", "accuracy", "int8", "size", "speed here", "estimate", "What to do next"):
        assert part in text


def test_a_pipe_gets_plain_text(report: Report) -> None:
    assert "\x1b" not in printed(report)
    assert "\x1b" in printed(report, terminal=True)


def test_a_bare_report_is_shown_too() -> None:
    assert "speed" not in printed(bare_report(["a", "b"]))


def test_labels_are_neither_markup_nor_control_characters() -> None:
    text = printed(full_report(("[bold red]oak[/]", "\x1b[2Jbirch", "maple\n")))

    assert "[bold red]oak[/]" in text
    assert "\x1b" not in text


def test_an_evaluation_names_what_was_not_counted(report: Report) -> None:
    stream = io.StringIO()

    render_evaluation(report.evaluation, Console(file=stream, width=160))

    assert "oak/torn.jpg" in stream.getvalue()
    assert "balanced accuracy" in stream.getvalue()
