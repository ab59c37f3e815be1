"""Renders the report of a build as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from edgetl.durable import replace_file
from edgetl.errors import MissingExtraError
from edgetl.evaluation.renderers import charts, wording
from edgetl.evaluation.renderers.album import Album, AlbumOptions
from edgetl.evaluation.report import DataFinding, Report
from edgetl.evaluation.scoring import ClassResult, Evaluation, Flip, ImageResult
from edgetl.text import for_html

MISTAKES = 24
"""Most confident mistakes shown as pictures."""

SUSPECTS = 24
"""Suspected labels shown as pictures."""

FLIPS = 12
"""Photos whose prediction differs between float and the shipped model, shown as pictures."""

EXAMPLES = 8
"""Correct predictions shown as pictures, one per class."""

SERIOUS = (wording.LEAKAGE, "contradicting labels")
"""Kinds of findings that are listed first."""

FINDINGS = 40
"""Findings about the photos that are listed; further ones are counted."""

CONFUSIONS = 8
"""Pairs of classes listed as most often confused."""


@dataclass(frozen=True)
class Photo:
    """One picture of the page, and its caption: the label, the prediction with its probability, and a note."""

    source: str
    picture: Optional[str]
    label: str
    predicted: str
    probability: Optional[float] = None
    note: str = ""
    better: Optional[bool] = None

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.source.rsplit("/", 1)[-1]


def render_html(report: Report, root: Optional[Path] = None, album: Optional[AlbumOptions] = None) -> str:
    """The report as one HTML page that loads no other files.

    Photos with relative names are read below `root`; those that do not exist have no picture.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    return str(load_template("report.html.j2").render(_page(report, Album(root, album or AlbumOptions()))))


def write_html(report: Report, path: Path, root: Optional[Path] = None, album: Optional[AlbumOptions] = None) -> Path:
    """Write the page to `path` in one step; raises StorageError if that fails."""
    replace_file(path, render_html(report, root, album).encode())
    return path


def load_template(name: str) -> Any:
    """A template of this folder, with the functions for figures as filters; MissingExtraError without jinja2."""
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("jinja2", "host", "an HTML page") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: Markup(for_html(value)) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: _unbroken(function) for function in _FILTERS})
    return environment.get_template(name)


_FILTERS: tuple[Callable[..., str], ...] = (
    wording.percent,
    wording.size,
    wording.interval_ms,
    wording.milliseconds,
    wording.seconds,
    wording.interval,
    wording.points,
    wording.count,
)


def _unbroken(function: Callable[..., str]) -> Callable[..., str]:
    """The function with no-break spaces in its result, so that a number and its unit stay on one line."""
    return lambda *arguments: function(*arguments).replace(" ", "\N{NO-BREAK SPACE}")


def _page(report: Report, album: Album) -> dict[str, Any]:
    """The variables of the template; the most useful pictures are made first, because their number is limited."""
    evaluation, data, comparison = report.evaluation, report.data, report.quantization
    mistakes = evaluation.mistakes()
    suspects = data.suspects() if data else []
    flips = comparison.flips if comparison else ()
    small = len(evaluation.labels) <= charts.TABLE_CLASSES
    return {
        "report": report,
        "headline": wording.headline(report),
        "gate_summary": wording.gate_summary(report.gate) if report.gate else "",
        "pruning_summary": wording.pruning_summary(report.pruning) if report.pruning else "",
        "advice": wording.advice(report),
        "majority_accuracy": _majority_accuracy(report),
        "examples": [_prediction(album, image) for image in _one_right_prediction_per_class(report)],
        "mistakes": [_prediction(album, image) for image in mistakes[:MISTAKES]],
        "mistakes_total": len(mistakes),
        "suspects": [_suspect(album, finding) for finding in suspects[:SUSPECTS]],
        "suspects_total": len(suspects),
        "flips": [_flip(album, flip) for flip in flips[:FLIPS]],
        "findings": _findings(album, data.other_findings()) if data else [],
        "findings_total": len(data.other_findings()) if data else 0,
        "classes": _classes(evaluation),
        "confusions": evaluation.confusions()[:CONFUSIONS],
        "confusion_map": None if small else charts.confusion_map(evaluation),
        "cell": charts.CELL,
        "curve": charts.learning_curve(report.training.history) if report.training else None,
        "reliability": charts.reliability_dots(evaluation.reliability),
        "splits": [
            split for split in ("train", "val", "test") if data and any(split in n for n in data.counts.values())
        ],
        "largest_class": max((sum(counts.values()) for counts in data.counts.values()), default=1) if data else 1,
        "largest_variant": max((variant.model_bytes for variant in report.variants), default=1),
        "slowest_variant": max((v.latency.p50_ms for v in report.variants if v.latency), default=1.0),
        "total_seconds": sum(report.seconds.values()),
    }


def _classes(evaluation: Evaluation) -> list[ClassResult]:
    """The classes with the lowest recall first, those without test images last."""
    ranked = [entry for entry, _ in evaluation.worst_classes()]
    return ranked + [entry for entry in evaluation.per_class if entry.recall is None]


def _majority_accuracy(report: Report) -> float:
    """The accuracy of always predicting the most common class."""
    return max(entry.support for entry in report.evaluation.per_class) / report.evaluation.n


def _one_right_prediction_per_class(report: Report) -> list[ImageResult]:
    best: dict[str, ImageResult] = {}
    for image in report.evaluation.images:
        known = best.get(image.label)
        if image.correct and (known is None or image.probability > known.probability):
            best[image.label] = image
    return [best[label] for label in sorted(best)][:EXAMPLES]


def _prediction(album: Album, image: ImageResult) -> Photo:
    return Photo(image.source, album.picture(image.source), image.label, image.predicted, image.probability)


def _suspect(album: Album, finding: DataFinding) -> Photo:
    source = finding.paths[0] if finding.paths else ""
    return Photo(source, album.picture(source) if source else None, "", "", note=finding.detail)


def _flip(album: Album, flip: Flip) -> Photo:
    better = True if flip.second == flip.label else False if flip.first == flip.label else None
    return Photo(flip.source, album.picture(flip.source), flip.label, f"{flip.first} → {flip.second}", better=better)


def _findings(album: Album, findings: Sequence[DataFinding]) -> list[tuple[DataFinding, list[str]]]:
    """The findings with up to four pictures each, the most serious first."""
    shown = []
    for finding in sorted(findings, key=lambda finding: finding.kind not in SERIOUS)[:FINDINGS]:
        pictures = [album.picture(path) for path in finding.paths[:4]]
        shown.append((finding, [picture for picture in pictures if picture]))
    return shown
