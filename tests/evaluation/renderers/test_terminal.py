from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from edgetl.evaluation import DataFinding, ImageResult, Report, render_evaluation, render_terminal, score
from tests.evaluation.conftest import bare_report, full_report


def printed(report: Report, terminal: bool = False) -> str:
    stream = io.StringIO()
    render_terminal(report, Console(file=stream, width=160, force_terminal=terminal))
    return stream.getvalue()


def test_the_summary_shows_the_figures_and_what_to_do_next(report: Report) -> None:
    text = printed(report)

    estimate = "estimate (14.0 to 20.7 ms)"
    for part in ("birch, maple and oak", "accuracy", "int8", "size", "latency here", estimate, "What to do next"):
        assert part in text


def test_a_pipe_gets_plain_text(report: Report) -> None:
    assert "\x1b" not in printed(report)
    assert "\x1b" in printed(report, terminal=True)


def test_a_bare_report_is_shown_too() -> None:
    assert "latency" not in printed(bare_report(["a", "b"]))


def test_labels_are_neither_markup_nor_control_characters() -> None:
    text = printed(full_report(("[bold red]oak[/]", "\x1b[2Jbirch", "maple\n")))

    assert "[bold red]oak[/]" in text
    assert "\x1b" not in text


def test_a_leak_is_the_first_advice_and_the_photos_are_not_called_new(report: Report) -> None:
    leak = DataFinding("leakage", ("train/a.jpg", "test/a.jpg"), "nearly the same photo is in test and train")
    leaky, corrected = (
        replace(report, data=replace(report.data, findings=(leak,), left_out=left_out))
        for left_out in ({}, {"train/a.jpg": "leakage"})
    )
    assert "1. 1 photo is nearly the same in more than one of train, val and test" in printed(leaky)
    assert "new photos" not in printed(leaky)
    assert "new photos" in printed(corrected)


def test_folders_that_may_not_be_the_classes_that_were_meant_are_the_first_advice(report: Report) -> None:
    similar = DataFinding("similar class names", (), "'Oak', 'oak' count as different classes; merge them")
    text = printed(replace(report, data=replace(report.data, findings=(similar,))))
    assert "1. 'Oak', 'oak' count as different classes; merge them." in text


def test_the_advice_is_to_add_photos_of_the_rare_class_not_of_the_large_one(report: Report) -> None:
    oaks = [ImageResult(f"oak/{n}.jpg", "oak", "birch" if n else "oak", 0.9, 0.1) for n in range(5)]
    others = [ImageResult(f"{label}.jpg", label, label, 0.9, 0.9) for label in ("birch", "maple")]
    counts = {label: {"train": number} for label, number in (("birch", 4), ("maple", 3), ("oak", 130))}
    uneven = replace(
        report,
        evaluation=score([*oaks, *others], ("birch", "maple", "oak"), "int8"),
        data=replace(report.data, counts=counts, findings=()),
    )
    text = printed(uneven)
    assert "Add photos of birch, which has 4, rather than of oak, which has 130." in text
    assert "Fitting weighs all classes alike, which costs the large ones" in " ".join(text.split())
    assert "Add photos of oak" not in text


def test_probabilities_are_not_called_wrong_on_few_photos() -> None:
    few, many = (bare_report(["a", "b"], images=images, skill=0.2) for images in (10, 200))
    assert min(report.evaluation.calibration_error.low for report in (few, many)) > 0.1
    assert "Predicted probabilities" in printed(many)
    assert "Predicted probabilities" not in printed(few)


def test_photos_that_are_left_out_are_named(report: Report) -> None:
    left_out = {"a/x.jpg": "unreadable", "a/y.jpg": "truncated", "b/z.jpg": "unreadable"}
    words = printed(replace(report, data=replace(report.data, left_out=left_out))).split()
    assert "left out 3 photos 2 unreadable, 1 truncated: x.jpg, y.jpg and z.jpg" in " ".join(words)


def test_classes_without_photos_are_named_in_an_evaluation(report: Report) -> None:
    only_oak = [image for image in report.evaluation.images if image.label == "oak"]
    stream = io.StringIO()
    render_evaluation(score(only_oak, report.evaluation.labels, "int8"), Console(file=stream, width=160))
    assert "2 classes" in stream.getvalue()
    assert "birch and maple" in stream.getvalue()


def test_an_evaluation_names_the_photos_that_were_not_counted(report: Report) -> None:
    stream = io.StringIO()

    render_evaluation(report.evaluation, Console(file=stream, width=160))

    assert "oak/torn.jpg" in stream.getvalue()
    assert "balanced accuracy" in stream.getvalue()
