"""Hides how doubtful labels are told from out-of-fold probabilities; the pipeline calls it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetl.data.dataset import Dataset
from edgetl.data.findings import Finding
from edgetl.errors import DataError


def suspect_labels(
    dataset: Dataset, indices: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> list[Finding]:
    """Samples whose given label is doubtful, the most doubtful first.

    `probabilities` (m, K) are out-of-fold, one row per index, columns in the order of `labels`. A photo is
    suspected when another class gets at least the mean probability that this class gives its own photos, and
    more than the given label gets (confident learning: Northcutt, Jiang, Chuang 2021, section 3.1).
    """
    column = {label: number for number, label in enumerate(labels)}
    given = np.array([column[label] for label in dataset.labels_of(indices)], np.int64)
    if probabilities.shape != (len(indices), len(labels)):
        raise DataError(f"expected probabilities {(len(indices), len(labels))}, received {probabilities.shape}")
    confidence = _self_confidence(probabilities, given)
    own = probabilities[np.arange(len(given)), given]
    likely = np.where(probabilities >= confidence, probabilities, -1)
    best = likely.argmax(axis=1)
    margin = likely.max(axis=1) - own
    suspected = np.nonzero((best != given) & (margin > 0))[0]
    ranked = suspected[np.argsort(-margin[suspected], kind="stable")]
    return [
        Finding(
            "suspected label",
            (dataset.samples[indices[row]].path,),
            f"labelled '{labels[given[row]]}' ({own[row]:.0%}), looks like '{labels[best[row]]}' "
            f"({probabilities[row, best[row]]:.0%})",
        )
        for row in ranked
    ]


def _self_confidence(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The mean probability (K,) of each class over its own photos; infinite where it has none."""
    counts = np.bincount(given, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(given)), given]
    sums = np.bincount(given, weights=own, minlength=probabilities.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
