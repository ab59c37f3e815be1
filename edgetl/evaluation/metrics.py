"""The formulas behind every figure of a report, on numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""The confidence level of every interval."""

BINS = 15
"""Equal-width bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599)."""

RESAMPLES = 1000
"""Bootstrap resamples for one interval."""

PROBABILITY_FLOOR = 1e-7
"""Smaller probabilities are raised to this, so that one float32 rounded to zero does not make log-loss infinite."""

_Z = 1.959963984540054  # the standard normal quantile of (1 + LEVEL) / 2


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose probability is in low..high: how many, their mean probability, and their accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class PairedDifference:
    """Two sets of predictions for the same images, compared image by image.

    `points` is the accuracy of the second minus that of the first, in percentage points, with its interval
    `low`..`high`. Only the second set is right on `gained` images, only the first on `lost` images.
    """

    n: int
    gained: int
    lost: int
    points: float
    low: float
    high: float
    p_value: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often each label was predicted as each class: (K, K) int64, one row per label.

    `labels` and `predicted` are (n,) integers in 0..K-1.
    """
    pairs = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> float:
    """The share of images that were predicted right."""
    return _share(np.trace(confusion), confusion.sum())


def recall(confusion: np.ndarray) -> np.ndarray:
    """Per class, the share of its images that were recognised: (K,) float64, NaN for a class without images."""
    return _shares(np.diag(confusion), confusion.sum(axis=1))


def precision(confusion: np.ndarray) -> np.ndarray:
    """Per class, the share of its predictions that were right: (K,) float64, NaN for a class never predicted."""
    return _shares(np.diag(confusion), confusion.sum(axis=0))


def f1(confusion: np.ndarray) -> np.ndarray:
    """Per class, the harmonic mean of precision and recall: (K,) float64, NaN for a class that never occurs."""
    return _shares(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1))


def balanced_accuracy(confusion: np.ndarray) -> float:
    """The mean recall of the classes that have images."""
    recalls = recall(confusion)
    return float(recalls[~np.isnan(recalls)].mean()) if confusion.sum() else math.nan


def log_loss(label_probabilities: np.ndarray) -> float:
    """The mean of -ln(probability of the label), in nats; 0 is perfect. `label_probabilities` is (n,)."""
    probabilities = np.clip(np.asarray(label_probabilities, np.float64), PROBABILITY_FLOOR, 1.0)
    return float(-np.log(probabilities).mean())


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """The mean difference (0..1) between probability and accuracy, over images in equal-width bins.

    `confidence` (n,) is the probability of the predicted class, `correct` (n,) whether it was right.
    """
    counts, confidences, hits = _binned(confidence, correct, bins)
    return float(np.abs(confidences - hits).sum() / counts.sum())


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The bins of the calibration error that contain at least one image, in order."""
    counts, confidences, hits = _binned(confidence, correct, bins)
    return tuple(
        ReliabilityBin(
            low=i / bins,
            high=(i + 1) / bins,
            n=int(counts[i]),
            confidence=float(confidences[i] / counts[i]),
            accuracy=float(hits[i] / counts[i]),
        )
        for i in np.flatnonzero(counts)
    )


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927), which is valid for few images and near 0 and 1."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + _Z**2 / (2 * n)
    margin = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    scale = 1 + _Z**2 / n
    low = 0.0 if successes == 0 else (centre - margin) / scale
    high = 1.0 if successes == n else (centre + margin) / scale
    return low, high


def balanced_accuracy_interval(confusion: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the balanced accuracy, images resampled within their class.

    If each class is all right or all wrong, resampling would give an interval of width zero; the Wilson intervals of
    the classes are combined instead.
    """
    support = confusion.sum(axis=1)
    present = support > 0
    hits, support = np.diag(confusion)[present], support[present]
    if np.all((hits == 0) | (hits == support)):
        return _interval_of_mean(hits, support)
    # Drawing n_k images of a class with replacement makes the number of hits among them binomial.
    draws = np.random.default_rng(seed).binomial(support, hits / support, size=(RESAMPLES, support.size))
    return _percentiles((draws / support).mean(axis=1), balanced_accuracy(confusion))


def _interval_of_mean(hits: np.ndarray, support: np.ndarray) -> tuple[float, float]:
    """The interval of a mean of independent shares, from theirs (Zou and Donner 2008, Stat. Med. 27:1693)."""
    shares = hits / support
    low, high = np.array([wilson(int(part), int(whole)) for part, whole in zip(hits, support)]).T
    down, up = (math.sqrt(((shares - limit) ** 2).sum()) / shares.size for limit in (low, high))
    return max(0.0, float(shares.mean()) - down), min(1.0, float(shares.mean()) + up)


def calibration_error_interval(
    confidence: np.ndarray, correct: np.ndarray, bins: int = BINS, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the expected calibration error, images resampled.

    Resampling inflates this error (it is a sum of absolute values), so the interval is widened if it would not
    contain the measured value.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)

    def error(chosen: np.ndarray) -> float:
        return expected_calibration_error(confidence[chosen], correct[chosen], bins)

    return _bootstrap(error, confidence.size, seed)


def log_loss_interval(label_probabilities: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the log-loss, images resampled."""
    probabilities = np.asarray(label_probabilities, np.float64)
    return _bootstrap(lambda chosen: log_loss(probabilities[chosen]), probabilities.size, seed)


def paired_difference(first_correct: np.ndarray, second_correct: np.ndarray) -> PairedDifference:
    """The change from the first set of predictions to the second, on the same images (n,) bool each.

    The interval is the adjusted Wald interval of Bonett and Price (2012, J. Educ. Behav. Stat. 37:479),
    the p-value McNemar's, exact and two-sided.
    """
    first, second = np.asarray(first_correct, bool), np.asarray(second_correct, bool)
    n = first.size
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    margin = _Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return PairedDifference(
        n=n,
        gained=gained,
        lost=lost,
        points=100 * _share(gained - lost, n),
        low=100 * max(-1.0, up - down - margin),
        high=100 * min(1.0, up - down + margin),
        p_value=mcnemar(gained, lost),
    )


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact two-sided p-value: the chance of a split at least as uneven if both ways were equally likely."""
    flipped = gained + lost
    tail = sum(math.comb(flipped, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << flipped))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(parts, wholes, out=np.full(len(parts), math.nan), where=wholes > 0)
    return shares


def _binned(confidence: np.ndarray, correct: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bin: the number of images, the sum of their confidences, and the number that were right.

    A confidence of 1.0 is in the last bin.
    """
    confidence = np.asarray(confidence, np.float64)
    positions = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(positions, minlength=bins)
    confidences = np.bincount(positions, weights=confidence, minlength=bins)
    hits = np.bincount(positions, weights=np.asarray(correct, np.float64), minlength=bins)
    return counts, confidences, hits


def _bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    draws = np.array([statistic(random.integers(0, n, n)) for _ in range(RESAMPLES)])
    return _percentiles(draws, statistic(np.arange(n)))


def _percentiles(draws: np.ndarray, value: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(float(low), value), max(float(high), value)
