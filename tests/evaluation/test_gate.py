"""What the accuracy gate allows, and how it is reported."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgetl.evaluation import (
    Gate,
    GuiltyLayer,
    ImageResult,
    Repair,
    Report,
    allowed_drop,
    judge,
    render_html,
    render_terminal,
)
from edgetl.evaluation.renderers.wording import gate_summary


def predictions(n: int, wrong: range) -> list[ImageResult]:
    """Predictions for n photos of oak, some of which are predicted as elm."""
    return [ImageResult(f"{i}.jpg", "oak", "elm" if i in wrong else "oak", 0.9, 0.9) for i in range(n)]


def after_losing(lost: int, n: int):
    return judge(predictions(n, range(0)), predictions(n, range(lost)), "int8", "validation photos")


def gate(lost: int, n: int, max_drop: float, repairs: tuple[Repair, ...] = ()) -> Gate:
    final = after_losing(lost, n)
    return Gate(
        max_drop=max_drop,
        allowed=allowed_drop(max_drop, n),
        passed=final.passes(max_drop),
        proven=final.is_proven(max_drop),
        float_accuracy=final.float_accuracy,
        first_accuracy=final.accuracy,
        final_accuracy=final.accuracy,
        first=final.difference,
        final=final.difference,
        repairs=repairs,
        guilty=(GuiltyLayer("block1a_project", "CONV_2D", 4.2),),
        how=final.how,
    )


@pytest.mark.parametrize(
    ("lost", "n", "passes"), [(10, 1000, True), (11, 1000, False), (1, 112, True), (2, 112, False)]
)
def test_the_measured_drop_decides(lost, n, passes):
    assert after_losing(lost, n).passes(1.0) is passes


def test_a_single_photo_never_fails_the_gate():
    assert after_losing(1, 10).passes(1.0)
    assert not after_losing(2, 10).passes(1.0)


def test_a_maximum_drop_of_zero_allows_no_photo_to_be_lost():
    assert after_losing(0, 10).passes(0.0)
    assert not after_losing(1, 1000).passes(0.0)


def test_gained_photos_compensate_for_lost_ones():
    reference, int8 = predictions(100, range(0, 5)), predictions(100, range(5, 10))
    judgement = judge(reference, int8, "int8", "validation photos")
    assert judgement.difference.points == 0
    assert judgement.passes(0.0)


def test_only_many_photos_prove_that_a_drop_is_small():
    assert not after_losing(0, 50).is_proven(1.0)
    assert after_losing(0, 5000).is_proven(1.0)


def test_the_verdict_says_what_was_measured_and_whether_it_is_proven():
    unproven = gate_summary(gate(1, 112, 1.0))
    assert unproven.startswith("Passed: −0.9 points against float32 on 112 photos (−")
    assert unproven.endswith("112 photos are too few to rule out a larger drop.")
    assert gate_summary(gate(0, 5000, 1.0)).endswith("a drop of 1 is allowed.")
    assert gate_summary(gate(9, 112, 1.0)).startswith("Failed, but shipped anyway: −8.0 points")


def with_gate(report: Report) -> Report:
    before, after = after_losing(9, 112), after_losing(1, 112)
    kept = Repair("cross-layer equalisation", before.accuracy, after.accuracy, after.difference, 21.0, True)
    failed = Repair("int16 activations", after.accuracy, seconds=0.4, note="the board does not support it")
    return replace(report, gate=gate(1, 112, 1.0, (kept, failed)))


def test_a_report_with_a_gate_comes_back_from_json_as_it_was(report):
    gated = with_gate(report)
    assert Report.from_json(gated.to_json()) == gated


def test_the_summary_contains_the_decision_and_the_repairs(report):
    summary = with_gate(report).gate.summary()
    assert (summary["passed"], summary["proven"], summary["n"]) == (True, False, 112)
    assert summary["repairs"] == ["cross-layer equalisation"]
    assert summary["guilty"] == ["block1a_project"]


def test_the_proof_leaves_out_how_long_repairs_took(report):
    proof = with_gate(report).proof()
    assert [repair.seconds for repair in proof.gate.repairs] == [None, None]
    assert "cross-layer equalisation" in render_html(proof)


def test_the_terminal_shows_every_repair(report):
    stream = io.StringIO()
    render_terminal(with_gate(report), Console(file=stream, width=200))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert any(line.startswith("accuracy gate passed Passed: −0.9 points") for line in lines)
    assert "repair 99.1 % cross-layer equalisation: kept; before 92.0 %; 21 s" in lines
    assert "repair – int16 activations: not kept; before 99.1 %; 0.4 s; the board does not support it" in lines


def test_the_page_shows_every_repair_and_the_worst_layers(report):
    page = render_html(with_gate(report))
    for part in ("Accuracy gate", "block1a_project", "cross-layer equalisation", "the board does not support it"):
        assert part in page
    assert "Accuracy gate" not in render_html(report)
