from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgetl.data import DatasetReport, Finding
from edgetl.errors import BundleError
from edgetl.evaluation import Data, Report
from tests.evaluation.conftest import bare_report, full_report


def test_a_report_comes_back_from_json_as_it_was(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


def test_a_report_without_optional_sections_comes_back_too() -> None:
    report = bare_report(["a", "b"])

    assert Report.from_json(report.to_json()) == report


def test_the_same_report_gives_the_same_text(report: Report) -> None:
    assert report.to_json() == full_report().to_json()


def test_every_figure_says_how_it_was_measured(report: Report) -> None:
    def figures(node: object) -> list[dict]:
        if isinstance(node, dict):
            own = [node] if {"value", "unit"} <= node.keys() else []
            return own + [figure for item in node.values() for figure in figures(item)]
        return [figure for item in node for figure in figures(item)] if isinstance(node, list) else []

    found = figures(json.loads(report.to_json()))

    assert len(found) > 10
    assert all(figure["how"] for figure in found)


def test_the_proof_is_the_same_whatever_the_clock_says(report: Report) -> None:
    latency = replace(report.summary.latency_here, p50_ms=9.9, machine="another one")
    later = replace(
        report,
        summary=replace(report.summary, latency_here=latency, bundle_bytes=1),
        seconds={"photos": 99.0},
        training=replace(
            report.training,
            stages=tuple(replace(stage, seconds=1.0) for stage in report.training.stages),
        ),
        variants=tuple(replace(variant, latency=latency) for variant in report.variants),
    )

    assert later.proof().to_json() == report.proof().to_json()


def test_the_proof_names_no_photo_and_no_folder_of_the_user(report: Report) -> None:
    text = report.proof().to_json()

    assert ".jpg" not in text
    assert "/home/ada" not in text
    assert Report.from_json(text).evaluation.accuracy == report.evaluation.accuracy


def test_the_data_section_is_what_the_loader_reports(tmp_path) -> None:
    finding = Finding("suspected label", (tmp_path / "a.jpg",), "labelled oak, looks like birch")
    found = DatasetReport(
        source=str(tmp_path),
        photos=3,
        counts={"oak": {"train": 1, "test": 1}},
        properties={"rotated": 1},
        ignored={".txt": 2},
        findings=(finding,),
        left_out={tmp_path / "b.jpg": "truncated"},
        split="Split by class.",
    )

    data = Data.from_json(found.to_json())

    assert data.used == 2
    assert data.suspects()[0].paths == (str(tmp_path / "a.jpg"),)
    assert data.left_out == {str(tmp_path / "b.jpg"): "truncated"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"summary": None}, "must be of type dict"),
        ({"seconds": {"photos": "1"}}, "photos must be of type float"),
        ({"seconds": {"photos": True}}, "photos must be of type float"),
        ({"licences": [1]}, "licences\\[0\\] must be of type str"),
        ({"seconds": {"photos": float("inf")}}, "must be a finite number"),
    ],
)
def test_a_report_that_is_not_one_is_refused_in_one_line(report: Report, change: dict, message: str) -> None:
    content = {**json.loads(report.to_json()), **change}

    with pytest.raises(BundleError, match=message) as caught:
        Report.from_json(json.dumps(content))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_text_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(BundleError):
        Report.from_json(text)


def test_a_missing_key_is_named(report: Report) -> None:
    content = json.loads(report.to_json())
    del content["evaluation"]["n"]

    with pytest.raises(BundleError, match="evaluation is missing the key 'n'"):
        Report.from_json(json.dumps(content))
