"""What pruning removed, in the report as a value, on the page, and in the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgetl.evaluation import PrunedLayer, Pruning, Report, render_html, render_terminal


@pytest.fixture
def pruned(report: Report) -> Report:
    layers = (PrunedLayer("block2a_expand", 96, 48), PrunedLayer("block3a_expand", 144, 96))
    return replace(report, pruning=Pruning(58_000_000, 29_000_000, 410_000, 220_000, layers))


def test_the_page_names_every_layer_that_lost_channels(pruned: Report) -> None:
    page = render_html(pruned)
    assert "29.0 of 58.0 million multiply-accumulates and 0.2 of 0.4 million parameters remain" in page
    assert "block2a_expand" in page
    assert "2 layers lost channels" in page


def test_the_terminal_shows_the_removed_share(pruned: Report) -> None:
    stream = io.StringIO()
    render_terminal(pruned, Console(file=stream, width=200))
    assert "by 50 %" in stream.getvalue()


def test_a_report_without_pruning_does_not_mention_it(report: Report) -> None:
    assert "pruning" not in render_html(report).lower()


def test_pruning_survives_json_and_is_part_of_the_proof(pruned: Report) -> None:
    again = Report.from_json(pruned.to_json())
    assert again == pruned
    assert again.proof().pruning == pruned.pruning
    assert again.pruning is not None
    assert again.pruning.share == 0.5
