"""Figures, verdicts and advice in words, for all renderers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from edgetl.evaluation.gate import Gate
from edgetl.evaluation.report import Pruning, Report
from edgetl.evaluation.values import Figure

LEAKAGE = "leakage"
"""The kind of finding about photos that the user put on both sides of the split."""

ABOUT_THE_SOURCE = ("class name not UTF-8", "similar class names", "outside classes", "value range")
"""Kinds of findings by which folders or values may not mean what the user thinks."""

UNEVEN = 5
"""A class with this many times the photos of another is not the one to add photos of."""

FEW_IMAGES = 100
"""With fewer test images, the interval is so wide that more photos are the first advice."""

WEAK_RECALL = 0.75
"""A class with a lower recall is named as the one to improve."""


def percent(share: Optional[float], digits: int = 1) -> str:
    """A share (0..1), e.g. "82.2 %"; a dash for None. Only a perfect share becomes "100 %"."""
    if share is None:
        return "–"
    value = 100 * share
    if value < 100 and round(value, digits) == 100:
        value = 100 - 10**-digits
    return f"{value:.{digits}f}".removesuffix(".0" if value in (0, 100) else "") + " %"


def interval(figure: Figure) -> str:
    """The interval of a share, e.g. "77.3 to 86.2 %"; empty if it is not known."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{percent(figure.low).removesuffix(' %')} to {percent(figure.high)}"


def points(difference: float) -> str:
    """A difference in percentage points with its sign, e.g. "+0.3", "−1.2" or "0.0"."""
    rounded = round(difference, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def size(count: Optional[int]) -> str:
    """A number of bytes in decimal units, e.g. "3.9 MB"; a dash for None."""
    if count is None:
        return "–"
    value, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 99.5 else f"{value:.1f} {unit}"


def milliseconds(value: Optional[float]) -> str:
    """A latency in milliseconds, e.g. "0.31 ms", "5.2 ms" or "118 ms"; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 99.95 else f"{value:.0f} ms"


def interval_ms(figure: Figure) -> str:
    """The interval of a latency, to follow a word, e.g. " (4.0 to 5.9 ms)"; empty if it is not known."""
    if figure.low is None or figure.high is None:
        return ""
    return f" ({milliseconds(figure.low).removesuffix(' ms')} to {milliseconds(figure.high)})"


def seconds(value: Optional[float]) -> str:
    """A duration in seconds, e.g. "0.4 s", "38 s" or "6 min 26 s"; a dash for None."""
    if value is None:
        return "–"
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listing(names: Sequence[str], most: int = 6) -> str:
    """Names for a sentence, e.g. "glass, metal and paper" or "a, b and 12 more"."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, e.g. "1 photo" or "1,204 photos"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def gate_summary(gate: Gate) -> str:
    """The decision of the accuracy gate, in one or two sentences."""
    drop, n = gate.final, count(gate.final.n, "photo")
    interval_of_drop = f"{points(drop.low)} to {points(drop.high)}"
    allowed = f"a drop of {gate.max_drop:g} is allowed"
    found = f"{points(drop.points)} points against float32 on {n} ({interval_of_drop}); {allowed}"
    if not gate.passed:
        return f"Failed, but shipped anyway: {found}."
    return f"Passed: {found}" + ("." if gate.proven else f". {n} are too few to rule out a larger drop.")


def pruning_summary(pruning: Pruning) -> str:
    """What structured pruning left over, in one sentence."""
    macs, parameters = (
        f"{after / 1e6:,.1f} of {before / 1e6:,.1f} million"
        for before, after in (
            (pruning.macs_before, pruning.macs_after),
            (pruning.parameters_before, pruning.parameters_after),
        )
    )
    narrower = count(len(pruning.layers), "layer")
    return f"{macs} multiply-accumulates and {parameters} parameters remain; {narrower} lost channels."


def headline(report: Report) -> str:
    """What the model does and how well, in one or two sentences."""
    evaluation = report.evaluation
    right = sum(row[column] for column, row in enumerate(evaluation.confusion))
    photos = count(evaluation.n, "test photo" if _leaks(report) else "new photo")
    score = f"all {photos}" if right == evaluation.n > 1 else f"{right:,} of {photos}"
    return f"The model distinguishes {listing(report.summary.labels)}. It was right on {score}."


def advice(report: Report) -> list[str]:
    """What to do next, the most useful first, each in one or two sentences; never empty."""
    candidates = (
        *_about_the_source(report),
        _leakage(report),
        _suspects(report),
        _weak_class(report),
        _few_images(report),
        _quantization(report),
        _calibration(report),
    )
    found = [line for line in candidates if line]
    return found or ["No problems found. Next, run the bundle on photos from the place where it will be used."]


def _about_the_source(report: Report) -> list[str]:
    """What was found out about folders and values; a report without the findings' details says nothing."""
    findings = report.data.findings if report.data else ()
    details = [finding.detail for finding in findings if finding.kind in ABOUT_THE_SOURCE]
    return [f"{detail[0].upper()}{detail[1:]}." for detail in details if detail]


def _leaks(report: Report) -> int:
    """The number of groups of nearly identical photos that are in use and in more than one split."""
    if report.data is None or LEAKAGE in report.data.left_out.values():
        return 0
    return sum(finding.kind == LEAKAGE for finding in report.data.findings)


def _leakage(report: Report) -> str:
    leaks = _leaks(report)
    if not leaks:
        return ""
    photos = "photo is" if leaks == 1 else "photos are"
    return (
        f"{leaks:,} {photos} nearly the same in more than one of train, val and test, so the accuracy is optimistic. "
        "Move them to one split, or leave them out of training: --exclude-bad."
    )


def _suspects(report: Report) -> str:
    suspects = report.data.suspects() if report.data else []
    if not suspects:
        return ""
    return (
        f"Check the {count(len(suspects), 'photo')} whose label looks wrong, and move those that are in the wrong "
        "folder: this is the cheapest way to a better model."
        if len(suspects) > 1
        else "Check the photo whose label looks wrong, and move it if it is in the wrong folder."
    )


def _weak_class(report: Report) -> str:
    ranked = report.evaluation.worst_classes()
    if not ranked or ranked[0][1].value >= WEAK_RECALL:
        return ""
    worst, recall = ranked[0]
    mistaken = [pair for pair in report.evaluation.confusions() if pair[0] == worst.label]
    most = f", and most of the others were predicted as {mistaken[0][1]}" if mistaken else ""
    if rare := _rare_class(report, worst.label, [pair[1] for pair in mistaken]):
        return (
            f"Add photos of {rare}, which has {_photos(report, rare):,}, rather than of {worst.label}, which has "
            f"{_photos(report, worst.label):,}. Fitting weighs all classes alike, which costs the large ones: only "
            f"{percent(recall.value, 0)} of {count(worst.support, 'test photo')} of {worst.label} were right{most}."
        )
    return (
        f"Add photos of {worst.label}: only {percent(recall.value, 0)} of its {count(worst.support, 'test photo')} "
        f"were recognised{most}."
    )


def _rare_class(report: Report, label: str, predicted: Sequence[str]) -> str:
    """The class with far fewer photos than `label` that it is mistaken for, else the smallest; empty if none is."""
    counts = report.data.counts if report.data else {}
    if label not in counts:
        return ""
    candidates = [*(other for other in predicted if other in counts), min(counts, key=lambda one: _photos(report, one))]
    uneven = (one for one in candidates if UNEVEN * _photos(report, one) <= _photos(report, label))
    return next(uneven, "")


def _photos(report: Report, label: str) -> int:
    """The photos of a class in use, in all splits."""
    return sum(report.data.counts[label].values()) if report.data else 0


def _few_images(report: Report) -> str:
    n, figure = report.evaluation.n, report.evaluation.accuracy
    if n >= FEW_IMAGES:
        return ""
    return (
        f"With only {count(n, 'test photo')}, the accuracy may be anywhere from {interval(figure)}. "
        "Add photos for a more precise figure."
    )


def _quantization(report: Report) -> str:
    comparison = report.quantization
    if comparison is None or comparison.difference.high >= 0:
        return ""
    return (
        f"{comparison.second} costs {points(-comparison.difference.points).removeprefix('+')} points against "
        f"{comparison.first}, more than chance explains. Calibrating on more photos may recover them."
    )


def _calibration(report: Report) -> str:
    """Only with enough images: the error is a sum of absolute values, so it is large by chance with few images."""
    error = report.evaluation.calibration_error
    if report.evaluation.n < FEW_IMAGES or error.low is None or error.low < 0.1:
        return ""
    return (
        f"Predicted probabilities are {percent(error.value, 0).removesuffix(' %')} points off on average: "
        "use them to rank predictions, and choose thresholds on photos of your own."
    )
