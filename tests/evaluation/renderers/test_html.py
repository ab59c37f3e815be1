from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from edgetl.errors import StorageError
from edgetl.evaluation import Report, render_html, write_html
from edgetl.evaluation.renderers.album import Album, AlbumOptions
from tests.evaluation.conftest import bare_report, full_report

pytest.importorskip("jinja2")

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The tags and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def photos(tmp_path: Path, report: Report) -> Path:
    for i, image in enumerate(report.evaluation.images):
        path = tmp_path / image.source
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (300, 200), (8 * i, 120, 90)).save(path)
    return tmp_path


def test_a_full_report_shows_every_section(report: Report, photos: Path) -> None:
    page = Page(render_html(report, photos))

    sections = {attributes["id"] for attributes in page.named("section")}
    assert sections == {
        "mistakes",
        "classes",
        "confusion",
        "trust",
        "training",
        "quantization",
        "variants",
        "suspects",
        "photos",
        "measured",
    }
    assert any((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.named("img"))


def test_a_bare_report_leaves_out_the_optional_sections() -> None:
    page = Page(render_html(bare_report(["a", "b"])))

    assert [attributes["id"] for attributes in page.named("section")] == [
        "mistakes",
        "classes",
        "confusion",
        "trust",
        "measured",
    ]


@pytest.mark.parametrize("classes", [2, 15, 16, 100])
def test_any_number_of_classes_can_be_shown(classes: int) -> None:
    labels = [f"class {i}" for i in range(classes)]

    page = Page(render_html(bare_report(labels, images=4)))

    assert all(label in page.text for label in labels)


def test_a_report_without_mistakes_says_so() -> None:
    page = Page(render_html(bare_report(["a", "b"], skill=50)))

    assert "were predicted right" in page.text
    assert "No class was confused" in page.text


def test_a_proof_can_be_rendered_without_its_photos(report: Report) -> None:
    assert "does not include the names" in Page(render_html(report.proof())).text


def test_names_with_markup_stay_text() -> None:
    hostile = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}", "oak'&amp;")
    report = full_report(hostile)

    text = render_html(report)
    page = Page(text)

    assert page.named("script") == []
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert all(label in page.text for label in hostile)
    assert "<script" not in text


def test_a_page_loads_no_other_files(report: Report, photos: Path) -> None:
    text = render_html(report, photos)
    page = Page(text)

    assert page.named("link") == page.named("script") == page.named("iframe") == []
    assert all((image["src"] or "").startswith("data:") for image in page.named("img"))
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert "url(" not in text
    assert "@import" not in text
    policy = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in (policy[0] or "")


def test_an_estimate_is_called_an_estimate(report: Report) -> None:
    text = Page(render_html(report)).text
    assert re.search(r"Estimate\s\(14\.0\sto\s20\.7\sms\), not measured", text)


def test_missing_photos_have_no_picture(report: Report, tmp_path: Path) -> None:
    assert Page(render_html(report, tmp_path)).named("img") == []


def test_pictures_are_bounded_in_number_and_size(photos: Path, report: Report) -> None:
    sources = [image.source for image in report.evaluation.images]
    few, small = Album(photos, AlbumOptions(pictures=3)), Album(photos, AlbumOptions(size_bytes=2000))

    assert sum(few.picture(source) is not None for source in sources) == 3
    assert 0 < sum(len(small.picture(source) or "") for source in sources) < 2000 * 4 / 3 + 500


def test_a_broken_photo_does_not_stop_the_report(report: Report, photos: Path) -> None:
    wrong = report.evaluation.mistakes()[0].source
    (photos / wrong).write_bytes(b"\xff\xd8 no photo")

    assert "no picture" in Page(render_html(report, photos)).text


def test_the_page_is_written_completely_or_not_at_all(report: Report, tmp_path: Path) -> None:
    path = write_html(report, tmp_path / "report.html")

    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(StorageError, match="cannot write"):
        write_html(report, tmp_path / "missing" / "report.html")


def test_the_same_report_gives_the_same_page(report: Report, photos: Path) -> None:
    assert render_html(report, photos) == render_html(report, photos)


def test_a_class_without_test_photos_is_listed(report: Report) -> None:
    kept = [image for image in report.evaluation.images if "oak" not in (image.label, image.predicted)]
    from edgetl.evaluation import score

    evaluation = score(kept, report.evaluation.labels, "int8")

    assert "no test photos" in Page(render_html(replace(report, evaluation=evaluation))).text
