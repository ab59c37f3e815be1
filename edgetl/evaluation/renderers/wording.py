"""Hides how figures are said to people, and what is worth saying first; both renderers call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from edgetl.evaluation.gate import Gate
from edgetl.evaluation.report import Pruning, Report
from edgetl.evaluation.values import Figure

LEAKAGE = "leakage"
"""The kind of a finding about photos that its owner put on both sides of the split."""

FEW_IMAGES = 100
"""With fewer test images than this, the interval is so wide that more photos come first."""

WEAK_RECALL = 0.75
"""A class whose recall is below this is named as the one to work on."""


def percent(share: Optional[float], digits: int = 1) -> str:
    """A share (0..1) as "82.2 %"; a dash where there is none. Only a perfect share is called 100 %."""
    if share is None:
        return "–"
    value = 100 * share
    if value < 100 and round(value, digits) == 100:
        value = 100 - 10**-digits
    return f"{value:.{digits}f}".removesuffix(".0" if value in (0, 100) else "") + " %"


def interval(figure: Figure) -> str:
    """The interval of a share as "77.3 to 86.2 %"; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{percent(figure.low).removesuffix(' %')} to {percent(figure.high)}"


def points(difference: float) -> str:
    """A difference in percentage points with its sign: "+0.3", "−1.2", "0.0"."""
    rounded = round(difference, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def size(count: Optional[int]) -> str:
    """Bytes as "3.9 MB" (decimal, as file managers and shops have it)."""
    if count is None:
        return "–"
    value, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 99.5 else f"{value:.1f} {unit}"


def milliseconds(value: Optional[float]) -> str:
    """A latency as "5.2 ms", "0.31 ms", "118 ms"."""
    if value is None:
        return "–"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 99.95 else f"{value:.0f} ms"


def interval_ms(figure: Figure) -> str:
    """How far a latency may be off, as " (4.0 to 5.9 ms)" to follow a word; empty where that is not known."""
    if figure.low is None or figure.high is None:
        return ""
    return f" ({milliseconds(figure.low).removesuffix(' ms')} to {milliseconds(figure.high)})"


def seconds(value: Optional[float]) -> str:
    """A duration as "0.4 s", "38 s", "6 min 26 s"."""
    if value is None:
        return "–"
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listing(names: Sequence[str], most: int = 6) -> str:
    """Names as a sentence has them: "glass, metal and paper"; "a, b and 12 more"."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 photo", "1,204 photos"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def verdict(gate: Gate) -> str:
    """What the accuracy gate came to, in one sentence."""
    drop, n = gate.final, count(gate.final.n, "photo")
    interval_of_drop = f"{points(drop.low)} to {points(drop.high)}"
    allowed = f"a drop of {gate.max_drop:g} allowed"
    found = f"{points(drop.points)} points against float32 on {n} ({interval_of_drop}), {allowed}"
    if not gate.passed:
        return f"Failed, and shipped all the same: {found}."
    return f"Passed: {found}" + ("." if gate.proven else f". {n} cannot prove it: the interval reaches beyond.")


def remainder(pruning: Pruning) -> str:
    """What structured pruning left, in one sentence."""
    macs, parameters = (
        f"{after / 1e6:,.1f} of {before / 1e6:,.1f} million"
        for before, after in (
            (pruning.macs_before, pruning.macs_after),
            (pruning.parameters_before, pruning.parameters_after),
        )
    )
    narrower = count(len(pruning.layers), "layer")
    return f"{macs} multiply-accumulates and {parameters} parameters are left; {narrower} became narrower."


def headline(report: Report) -> str:
    """What the reader has got, in one sentence."""
    evaluation = report.evaluation
    right = sum(row[slot] for slot, row in enumerate(evaluation.confusion))
    score = "all of them" if right == evaluation.n else f"{right:,}"
    new = "" if _leaks(report) else " it had never seen"
    return (
        f"It tells {listing(report.summary.labels)} apart. Shown {count(evaluation.n, 'photo')}{new}, "
        f"it was right on {score}."
    )


def advice(report: Report) -> list[str]:
    """What is worth doing next, the most useful first, each in a sentence or two; never empty."""
    candidates = (
        _leakage(report),
        _suspects(report),
        _weak_class(report),
        _few_images(report),
        _quantization(report),
        _calibration(report),
    )
    found = [line for line in candidates if line]
    return found or ["Nothing stands out. Try it: run the bundle on photos from where it will be used."]


def _leaks(report: Report) -> int:
    """How many groups of nearly the same photos lie in several of train, val and test, all of them in use."""
    if report.data is None or LEAKAGE in report.data.left_out.values():
        return 0
    return sum(finding.kind == LEAKAGE for finding in report.data.findings)


def _leakage(report: Report) -> str:
    leaks = _leaks(report)
    if not leaks:
        return ""
    photos = "photo is" if leaks == 1 else "photos are"
    return (
        f"{leaks:,} {photos} nearly the same in more than one of train, val and test, so the accuracy flatters. "
        "Move them to one side, or leave them out of training: --exclude-bad."
    )


def _suspects(report: Report) -> str:
    suspects = report.data.suspects() if report.data else []
    if not suspects:
        return ""
    return (
        f"Look through the {count(len(suspects), 'photo')} whose label looks wrong and move those that are: "
        "it is the cheapest way to a better model."
        if len(suspects) > 1
        else "Look at the one photo whose label looks wrong, and move it if it is."
    )


def _weak_class(report: Report) -> str:
    ranked = report.evaluation.worst_classes()
    if not ranked or ranked[0][1].value >= WEAK_RECALL:
        return ""
    worst, recall = ranked[0]
    mistaken = [pair for pair in report.evaluation.confusions() if pair[0] == worst.label]
    most = f", most often taken for {mistaken[0][1]}" if mistaken else ""
    return (
        f"Add photos of {worst.label}: {percent(recall.value, 0)} of its {count(worst.support, 'photo')} "
        f"were found{most}."
    )


def _few_images(report: Report) -> str:
    n, figure = report.evaluation.n, report.evaluation.accuracy
    if n >= FEW_IMAGES:
        return ""
    return (
        f"{count(n, 'test photo')} leave the accuracy anywhere from {interval(figure)}. More photos narrow that down."
    )


def _quantization(report: Report) -> str:
    comparison = report.quantization
    if comparison is None or comparison.difference.high >= 0:
        return ""
    return (
        f"{comparison.second} costs {points(-comparison.difference.points).removeprefix('+')} points against "
        f"{comparison.first}, more than chance explains. More photos to calibrate on may win them back."
    )


def _calibration(report: Report) -> str:
    """Of few images even probabilities that are right seem to be off: the error is a sum of absolute values."""
    error = report.evaluation.calibration_error
    if report.evaluation.n < FEW_IMAGES or error.low is None or error.low < 0.1:
        return ""
    return (
        f"Stated probabilities are {percent(error.value, 0).removesuffix(' %')} points off on average: "
        "compare answers by rank, and set thresholds on photos of your own."
    )
