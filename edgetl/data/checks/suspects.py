"""Finds photos whose label is probably wrong, from out-of-fold probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetl.data.dataset import Dataset
from edgetl.data.findings import Finding
from edgetl.errors import DataError


def suspect_labels(
    dataset: Dataset, indices: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> list[Finding]:
    """Samples whose label is doubtful, the most doubtful first.

    A sample is suspected if another class gets at least the mean probability that this class gives its own photos,
    and more than the sample's label gets (confident learning: Northcutt, Jiang, Chuang 2021, section 3.1).

    Args:
        indices: (m,) samples of `dataset`.
        probabilities: (m, K) out-of-fold probabilities, a row per index, columns in the order of `labels`.

    Raises:
        DataError: `probabilities` has another shape.
    """
    column_of = {label: column for column, label in enumerate(labels)}
    labelled = np.array([column_of[label] for label in dataset.labels_of(indices)], np.int64)
    if probabilities.shape != (len(indices), len(labels)):
        raise DataError(f"expected probabilities {(len(indices), len(labels))}, received {probabilities.shape}")
    confidence = _self_confidence(probabilities, labelled)
    own = probabilities[np.arange(len(labelled)), labelled]
    likely = np.where(probabilities >= confidence, probabilities, -1)
    best = likely.argmax(axis=1)
    margin = likely.max(axis=1) - own
    suspected = np.nonzero((best != labelled) & (margin > 0))[0]
    ranked = suspected[np.argsort(-margin[suspected], kind="stable")]
    return [
        Finding(
            "suspected label",
            (dataset.samples[indices[row]].path,),
            f"labelled '{labels[labelled[row]]}' ({own[row]:.0%}), looks like '{labels[best[row]]}' "
            f"({probabilities[row, best[row]]:.0%})",
        )
        for row in ranked
    ]


def _self_confidence(probabilities: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """The mean probability of each class over its own photos, (K,); infinite for a class without photos."""
    counts = np.bincount(labelled, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(labelled)), labelled]
    sums = np.bincount(labelled, weights=own, minlength=probabilities.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
