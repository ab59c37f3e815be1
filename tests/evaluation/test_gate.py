"""What an accuracy gate allows, and how it is told."""

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
from edgetl.evaluation.renderers.wording import verdict


def answers(n: int, wrong: range) -> list[ImageResult]:
    """n photos of oak, of which some are taken for elm."""
    return [ImageResult(f"{i}.jpg", "oak", "elm" if i in wrong else "oak", 0.9, 0.9) for i in range(n)]


def after_losing(lost: int, n: int):
    return judge(answers(n, range(0)), answers(n, range(lost)), "int8", "validation photos")


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
def test_the_drop_that_was_measured_decides(lost, n, passes):
    assert after_losing(lost, n).passes(1.0) is passes


def test_one_photo_alone_fails_no_gate_however_few_there_are():
    assert after_losing(1, 10).passes(1.0)
    assert not after_losing(2, 10).passes(1.0)


def test_no_drop_allowed_means_not_one_photo():
    assert after_losing(0, 10).passes(0.0)
    assert not after_losing(1, 1000).passes(0.0)


def test_photos_that_were_gained_make_up_for_those_lost():
    reference, int8 = answers(100, range(0, 5)), answers(100, range(5, 10))
    judgement = judge(reference, int8, "int8", "validation photos")
    assert judgement.difference.points == 0
    assert judgement.passes(0.0)


def test_few_photos_pass_without_proving_and_many_prove():
    assert not after_losing(0, 50).is_proven(1.0)
    assert after_losing(0, 5000).is_proven(1.0)


def test_the_verdict_says_what_was_found_and_what_it_proves():
    unproven = verdict(gate(1, 112, 1.0))
    assert unproven.startswith("Passed: −0.9 points against float32 on 112 photos (−")
    assert unproven.endswith("112 photos cannot prove it: the interval reaches beyond.")
    assert verdict(gate(0, 5000, 1.0)).endswith("drop of 1 allowed.")
    assert verdict(gate(9, 112, 1.0)).startswith("Failed, and shipped all the same: −8.0 points")


def with_gate(report: Report) -> Report:
    before, after = after_losing(9, 112), after_losing(1, 112)
    kept = Repair("cross-layer equalisation", before.accuracy, after.accuracy, after.difference, 21.0, True)
    failed = Repair("int16 activations", after.accuracy, seconds=0.4, note="the board does not take it")
    return replace(report, gate=gate(1, 112, 1.0, (kept, failed)))


def test_a_report_with_a_gate_comes_back_from_json_as_it_was(report):
    told = with_gate(report)
    assert Report.from_json(told.to_json()) == told


def test_the_summary_has_what_a_program_asks_for(report):
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
    assert "repair – int16 activations: not kept; before 99.1 %; 0.4 s; the board does not take it" in lines


def test_the_page_shows_every_repair_and_the_guilty_layers(report):
    page = render_html(with_gate(report))
    for part in ("Accuracy gate", "block1a_project", "cross-layer equalisation", "the board does not take it"):
        assert part in page
    assert "Accuracy gate" not in render_html(report)
