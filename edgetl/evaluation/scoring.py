"""Runs a bundle on labelled photos, and computes the figures of the report from its predictions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from edgetl.errors import DataError, ImageError, OptionError
from edgetl.evaluation import metrics
from edgetl.evaluation.metrics import PairedDifference, ReliabilityBin
from edgetl.evaluation.values import Figure
from edgetl.progress import Progress
from edgetl.runtime import Classifier

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class ImageResult:
    """The prediction for one labelled image.

    `probability` (0..1) is that of the predicted class, `probability_of_label` that of the image's label.
    """

    source: str
    label: str
    predicted: str
    probability: float
    probability_of_label: float
    novelty: float = 0.0
    is_novel: bool = False

    @property
    def correct(self) -> bool:
        """Whether the prediction equals the label."""
        return self.predicted == self.label


@dataclass(frozen=True)
class LeftOut:
    """An image that is not counted, and the reason."""

    source: str
    reason: str


@dataclass(frozen=True)
class ClassResult:
    """The figures of one class: `support` images have its label, and `predicted` images were predicted as it.

    A figure is None if there are no such images.
    """

    label: str
    support: int
    predicted: int
    recall: Optional[Figure]
    precision: Optional[Figure]
    f1: Optional[float]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on labelled images, with intervals, and the prediction for each image.

    `confusion` has one row per label and one column per predicted class, in the order of `labels`. `called_novel` is
    the share of the images, all of known classes, that were rejected as "none of these".
    """

    n: int
    labels: tuple[str, ...]
    accuracy: Figure
    balanced_accuracy: Figure
    log_loss: Figure
    calibration_error: Figure
    called_novel: Figure
    per_class: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[ReliabilityBin, ...]
    images: tuple[ImageResult, ...]
    unreadable: tuple[LeftOut, ...]
    unknown_labels: tuple[tuple[str, int], ...]

    def mistakes(self) -> list[ImageResult]:
        """The images with a wrong prediction, the most confident first."""
        wrong = [image for image in self.images if not image.correct]
        return sorted(wrong, key=lambda image: (-image.probability, image.source))

    def confusions(self) -> list[tuple[str, str, int]]:
        """(label, predicted class, number of images) for every pair that was confused, the most frequent first."""
        pairs = [
            (self.labels[row], self.labels[column], count)
            for row, counts in enumerate(self.confusion)
            for column, count in enumerate(counts)
            if row != column and count
        ]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))

    def worst_classes(self) -> list[tuple[ClassResult, Figure]]:
        """The classes that have images, each with its recall, the lowest first."""
        known = [(entry, entry.recall) for entry in self.per_class if entry.recall is not None]
        return sorted(known, key=lambda pair: (pair[1].value, -pair[0].support, pair[0].label))

    def summary(self) -> dict[str, Any]:
        """The figures without the images: what `edgetl evaluate --json` prints."""
        return {
            "accuracy": self.accuracy.value,
            "accuracy_interval": [self.accuracy.low, self.accuracy.high],
            "n": self.n,
            "balanced_accuracy": self.balanced_accuracy.value,
            "balanced_accuracy_interval": [self.balanced_accuracy.low, self.balanced_accuracy.high],
            "calibration_error": self.calibration_error.value,
            "log_loss": self.log_loss.value,
            "called_novel": self.called_novel.value,
            "per_class": {entry.label: _flat(entry) for entry in self.per_class},
            "labels": list(self.labels),
            "confusion": [list(row) for row in self.confusion],
            "unreadable": [entry.source for entry in self.unreadable],
            "unknown_labels": dict(self.unknown_labels),
        }


@dataclass(frozen=True)
class Flip:
    """An image on which two sets of predictions disagree."""

    source: str
    label: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions on the same images: the difference in accuracy, and the predictions that changed."""

    first: str
    second: str
    first_accuracy: Figure
    second_accuracy: Figure
    difference: PairedDifference
    flips: tuple[Flip, ...]
    how: str


def evaluate(
    classifier: Classifier,
    images: Sequence[PathLike],
    labels: Sequence[str],
    *,
    root: Optional[Path] = None,
    leave_out_unknown: bool = False,
    workers: Optional[int] = None,
    seed: int = 0,
    progress: Optional[Progress] = None,
) -> Evaluation:
    """Run the bundle's classifier on every image, and compare its predictions with the labels.

    Images that cannot be read are listed in `unreadable` and not counted. The labels may be a subset of the model's.
    With `root`, images below it are named relative to it. The same seed gives the same intervals.

    Raises:
        DataError: no image is left, or the model does not have one of the labels and `leave_out_unknown` is off.
        OptionError: the numbers of images and labels differ.
    """
    if len(images) != len(labels):
        raise OptionError(f"each image needs one label, received {len(images)} images and {len(labels)} labels")
    model_labels = frozenset(classifier.labels)
    unknown = Counter(label for label in labels if label not in model_labels)
    if unknown and not leave_out_unknown:
        raise DataError(_unknown_labels_message(unknown, classifier.labels))
    known = [(path, label) for path, label in zip(images, labels) if label not in unknown]
    results: list[ImageResult] = []
    unreadable: list[LeftOut] = []
    for done, result in enumerate(_results(classifier, known, root, workers), start=1):
        if isinstance(result, ImageResult):
            results.append(result)
        else:
            unreadable.append(result)
        if progress:
            progress("evaluate", done, len(known))
    if unreadable and not results:
        raise DataError(f"no image is left to evaluate on: {len(unreadable)} cannot be read; {unreadable[0].reason}")
    evaluation = score(results, classifier.labels, how=_how(classifier), seed=seed)
    return replace(evaluation, unreadable=tuple(unreadable), unknown_labels=tuple(sorted(unknown.items())))


def score(images: Sequence[ImageResult], labels: Sequence[str], how: str, seed: int = 0) -> Evaluation:
    """The figures of known predictions; `how` says what made them, e.g. "float32 in Keras".

    Raises:
        DataError: there are no images, or a label is not one of `labels`.
    """
    _require_known_labels(images, labels)
    columns = {label: column for column, label in enumerate(labels)}
    confusion = metrics.confusion_matrix(
        np.array([columns[image.label] for image in images]),
        np.array([columns[image.predicted] for image in images]),
        len(labels),
    )
    correct = np.array([image.correct for image in images])
    confidence = np.array([image.probability for image in images])
    label_probabilities = np.array([image.probability_of_label for image in images])
    n = len(images)
    sample = f"{how}, {n} images"
    bootstrap = f"{sample}, bootstrap interval (seed {seed})"
    return Evaluation(
        n=n,
        labels=tuple(labels),
        accuracy=proportion(int(correct.sum()), n, sample),
        balanced_accuracy=Figure(
            metrics.balanced_accuracy(confusion),
            "share",
            f"Mean recall of the classes; {bootstrap}",
            *metrics.balanced_accuracy_interval(confusion, seed),
        ),
        log_loss=Figure(
            metrics.log_loss(label_probabilities),
            "nats",
            f"Mean -ln(probability of the label); {bootstrap}",
            *metrics.log_loss_interval(label_probabilities, seed),
        ),
        calibration_error=Figure(
            metrics.expected_calibration_error(confidence, correct),
            "share",
            f"Expected calibration error, {metrics.BINS} equal-width bins; {bootstrap}",
            *metrics.calibration_error_interval(confidence, correct, seed=seed),
        ),
        called_novel=proportion(
            sum(image.is_novel for image in images),
            n,
            f"Share of images of known classes rejected as none of these; {sample}",
        ),
        per_class=_per_class(confusion, labels, how),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        reliability=metrics.reliability(confidence, correct),
        images=tuple(images),
        unreadable=(),
        unknown_labels=(),
    )


def compare(
    first: Sequence[ImageResult], second: Sequence[ImageResult], names: tuple[str, str], how: str
) -> Comparison:
    """The change from the first predictions to the second, on the images that both contain.

    Raises:
        DataError: they have no image in common, or disagree about a label.
    """
    others = {image.source: image for image in second}
    pairs = [(image, others[image.source]) for image in first if image.source in others]
    if not pairs:
        raise DataError(f"{names[0]} and {names[1]} have no image in common; compare them on the same photos")
    for a, b in pairs:
        if a.label != b.label:
            raise DataError(f"{a.source} is labelled '{a.label}' and '{b.label}'; compare on the same labels")
    first_correct = np.array([a.correct for a, _ in pairs])
    second_correct = np.array([b.correct for _, b in pairs])
    n = len(pairs)
    return Comparison(
        first=names[0],
        second=names[1],
        first_accuracy=proportion(int(first_correct.sum()), n, f"{names[0]}, {how}, {n} images"),
        second_accuracy=proportion(int(second_correct.sum()), n, f"{names[1]}, {how}, {n} images"),
        difference=metrics.paired_difference(first_correct, second_correct),
        flips=tuple(Flip(a.source, a.label, a.predicted, b.predicted) for a, b in pairs if a.predicted != b.predicted),
        how=f"{how}: the same {n} images, paired; adjusted Wald interval, exact McNemar test",
    )


def proportion(successes: int, n: int, how: str) -> Figure:
    """A share of n images with its Wilson interval at 95 %; raises DataError if n is 0."""
    if n == 0:
        raise DataError(f"no images to measure a share on ({how}); add labelled photos that can be read")
    return Figure(successes / n, "share", f"{how}, Wilson interval", *metrics.wilson(successes, n))


def _results(
    classifier: Classifier,
    known: Sequence[tuple[PathLike, str]],
    root: Optional[Path],
    workers: Optional[int],
) -> Iterator[Union[ImageResult, LeftOut]]:
    """One result per image, in order; threads decode images and run the model in parallel."""
    executor = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="evaluate")
    try:
        yield from executor.map(lambda pair: _result(classifier, pair[0], pair[1], root), known)
    finally:
        executor.shutdown(cancel_futures=True)


def _result(classifier: Classifier, path: PathLike, label: str, root: Optional[Path]) -> Union[ImageResult, LeftOut]:
    source = _name(path, root)
    try:
        prediction = classifier.predict(path)
    except ImageError as error:
        return LeftOut(source, str(error))
    return ImageResult(
        source=source,
        label=label,
        predicted=prediction.label,
        probability=float(prediction.probability),
        probability_of_label=float(prediction.probabilities[label]),
        novelty=float(prediction.novelty),
        is_novel=bool(prediction.is_novel),
    )


def _name(path: PathLike, root: Optional[Path]) -> str:
    """The image's name in the report; bytes that are not UTF-8 stay in it, as lone surrogates."""
    if root is not None and Path(path).is_relative_to(root):
        path = Path(path).relative_to(root)
    return os.fspath(path)


def _per_class(confusion: np.ndarray, labels: Sequence[str], how: str) -> tuple[ClassResult, ...]:
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    scores = metrics.f1(confusion)

    def share(column: int, whole: np.ndarray, name: str) -> Optional[Figure]:
        n = int(whole[column])
        return proportion(int(hits[column]), n, f"{name}; {how}, {n} images") if n else None

    return tuple(
        ClassResult(
            label=label,
            support=int(support[column]),
            predicted=int(predicted[column]),
            recall=share(column, support, "Recall"),
            precision=share(column, predicted, "Precision"),
            f1=None if np.isnan(scores[column]) else float(scores[column]),
        )
        for column, label in enumerate(labels)
    )


def _flat(entry: ClassResult) -> dict[str, Any]:
    recall, precision = entry.recall, entry.precision
    return {
        "support": entry.support,
        "recall": recall and recall.value,
        "recall_interval": recall and [recall.low, recall.high],
        "precision": precision and precision.value,
        "precision_interval": precision and [precision.low, precision.high],
        "f1": entry.f1,
    }


def _require_known_labels(images: Sequence[ImageResult], labels: Sequence[str]) -> None:
    if not images:
        raise DataError("no image is left to evaluate on; add labelled photos that can be read")
    known = frozenset(labels)
    unknown = Counter(name for image in images for name in (image.label, image.predicted) if name not in known)
    if unknown:
        raise DataError(_unknown_labels_message(unknown, labels))


def _unknown_labels_message(unknown: Counter[str], labels: Sequence[str]) -> str:
    names = ", ".join(f"'{label}' ({count})" for label, count in unknown.most_common(5))
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return (
        f"the model does not have the labels {names}{more}; it has {', '.join(labels)}. "
        "Rename the folders, or leave those images out: --leave-out-unknown"
    )


def _how(classifier: Classifier) -> str:
    return f"The bundle run by the device runtime ({classifier.interpreter})"
