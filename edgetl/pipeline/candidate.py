"""A compiled backbone with the last layer solved on the embeddings that it gives; the stages make and compare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from threadpoolctl import threadpool_limits

from edgetl.conversion import Artifact
from edgetl.data import Dataset
from edgetl.evaluation import ImageResult
from edgetl.learners import LastLayer, Selection, choose, relearn, to_grid

FOLDS = 5
"""Parts of the cross-validation that chooses the solver: each is predicted by a layer solved from the rest."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One model that could ship.

    `embeddings` (n, d) are raw, a row a photo of the data set. `model` is the tf_keras backbone where this
    build trained one; `history` tells how that went, epoch by epoch, and `seconds` how long it took.
    """

    stage: str
    artifact: Artifact
    embeddings: np.ndarray
    selection: Selection
    model: Any = None
    history: tuple[Mapping[str, Any], ...] = ()
    seconds: Optional[float] = None

    @property
    def last_layer(self) -> LastLayer:
        """Solved from every photo but the test photos."""
        return self.selection.last_layer

    def answers(self, dataset: Dataset, indices: np.ndarray) -> list[ImageResult]:
        """What it says about photos of the data set, from their embeddings."""
        grid = to_grid(self.embeddings[indices], self.artifact.embedding["zero_point"])
        return _results(dataset, indices, self.last_layer.probabilities(grid), self.last_layer.labels)


def known_photos(dataset: Dataset) -> np.ndarray:
    """The photos that a last layer may learn from: all but the test photos."""
    return np.sort(np.concatenate([dataset.indices("train"), dataset.indices("val")]))


def solve_cross_validated(artifact: Artifact, embeddings: np.ndarray, dataset: Dataset) -> Selection:
    """For a backbone that has seen none of these photos: every one of them can be predicted out of fold."""
    known = known_photos(dataset)
    return _choose(artifact, embeddings, dataset, dataset.folds(known, FOLDS))


def solve_held_out(artifact: Artifact, embeddings: np.ndarray, dataset: Dataset) -> Selection:
    """For a backbone that was trained on the training photos: only the validation photos can judge."""
    validation = np.isin(known_photos(dataset), dataset.indices("val"))
    return _choose(artifact, embeddings, dataset, np.where(validation, 0, -1))


def solved_from_training_photos(candidate: Candidate, dataset: Dataset) -> LastLayer:
    """The candidate's last layer without the validation photos, so that these can judge what starts from it."""
    validation = dataset.indices("val")
    grid = to_grid(candidate.embeddings[validation], candidate.artifact.embedding["zero_point"])
    statistics = candidate.selection.statistics.copy()
    statistics.remove(grid, dataset.labels_of(validation))
    with threadpool_limits(1, "blas"):
        return relearn(candidate.last_layer, statistics, candidate.selection.parameters)


def held_out_answers(selection: Selection, dataset: Dataset) -> list[ImageResult]:
    """What layers that had not seen them said about the photos that `selection` held out."""
    indices = known_photos(dataset)[selection.out_of_fold_indices]
    return _results(dataset, indices, selection.out_of_fold_probabilities, selection.last_layer.labels)


def _choose(artifact: Artifact, embeddings: np.ndarray, dataset: Dataset, folds: np.ndarray) -> Selection:
    known = known_photos(dataset)
    grid = to_grid(embeddings[known], artifact.embedding["zero_point"])
    # OpenBLAS's threads spin for each other where the cores are busy: 10 ms of Cholesky then take a second.
    with threadpool_limits(1, "blas"):
        return choose(grid, dataset.labels_of(known), folds)


def _results(
    dataset: Dataset, indices: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...]
) -> list[ImageResult]:
    slots = {label: slot for slot, label in enumerate(labels)}
    return [
        ImageResult(
            source=str(dataset.samples[index].path),
            label=dataset.samples[index].label,
            predicted=labels[int(row.argmax())],
            probability=float(row.max()),
            probability_of_label=float(row[slots[dataset.samples[index].label]]),
        )
        for index, row in zip(indices, probabilities)
    ]
