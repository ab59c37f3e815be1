"""The report of a search as JSON, in a terminal, and as a page."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgetl.evaluation import Figure, SearchReport, Trial, proportion, render_search, render_search_html, write_search
from tests.evaluation.renderers.test_html import Page

pytest.importorskip("jinja2")


def trial(name: str, right: int, latency_ms: float, model_bytes: int, **flags: bool) -> Trial:
    return Trial(
        name=name,
        backbone=name,
        input_size=160,
        epochs=3,
        pruned=0.0,
        accuracy=proportion(right, 200, "photos that were held back"),
        standard_error=0.01,
        log_loss=0.05,
        latency=Figure(latency_ms, "ms", "scaled from another model's", estimate=True),
        macs=round(7e6 * latency_ms),
        model_bytes=model_bytes,
        ram_bytes=3 * model_bytes,
        seconds=12.3,
        **flags,
    )


@pytest.fixture
def found() -> SearchReport:
    trials = (
        trial("large", 199, 53.7, 3_950_000, on_front=True),
        trial("<small>", 198, 4.1, 617_000, on_front=True, picked=True),
        trial("beaten", 190, 8.2, 617_000),
    )
    skipped = ("huge: about 120 ms, over 60.0 ms",)
    return SearchReport("rpi3", "Raspberry Pi 3", "photos", 1000, trials, "It is as good and faster.", skipped, 321.0)


def terminal(report: SearchReport) -> str:
    text = io.StringIO()
    render_search(report, Console(file=text, width=200))
    return text.getvalue()


def test_the_json_contains_the_pick_and_every_figure(found: SearchReport) -> None:
    content = json.loads(json.dumps(found.to_json()))
    assert content["pick"] == "<small>"
    assert [entry["accuracy"]["value"] for entry in content["trials"]] == [0.995, 0.99, 0.95]


def test_the_terminal_marks_the_pick_and_says_why(found: SearchReport) -> None:
    text = terminal(found)
    rows = [line.strip() for line in text.splitlines() if "≈" in line]
    assert rows[0].startswith("*  large")
    assert rows[1].startswith("→  <small>")
    assert "≈ 4.1 ms" in rows[1]
    assert rows[2].startswith("beaten")
    assert "over 60.0 ms" in text
    assert found.why in text


def test_the_page_plots_every_trial_against_latency_and_size(found: SearchReport) -> None:
    page = Page(render_search_html(found))
    assert len(page.named("svg")) == 2
    assert [circle["class"] for circle in page.named("circle")] == 2 * ["trained", "trained", "pick"]
    assert "Accuracy against latency on rpi3, estimated" in page.text
    assert "<small>" in page.text
    assert found.why in page.text


def test_the_line_climbs_through_the_best_trials(found: SearchReport) -> None:
    page = Page(render_search_html(found))
    corners = [tuple(map(float, corner.split(","))) for corner in str(page.named("polyline")[0]["points"]).split()]
    assert [x for x, _ in corners] == sorted(x for x, _ in corners)
    assert [y for _, y in corners] == sorted((y for _, y in corners), reverse=True)


def test_without_latencies_the_page_plots_multiply_accumulates(found: SearchReport) -> None:
    unknown = replace(found, trials=tuple(replace(one, latency=None) for one in found.trials))
    assert "Accuracy against multiply-accumulates" in Page(render_search_html(unknown)).text
    assert "→" in terminal(unknown)


def test_a_single_trial_gives_a_page_too(found: SearchReport, tmp_path: Path) -> None:
    path = write_search(replace(found, trials=found.trials[1:2]), tmp_path / "found-search.html")
    assert len(Page(path.read_text()).named("circle")) == 2
