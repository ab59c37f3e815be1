"""A compiled backbone with its last layer: what a build's stages make, compare, and ship."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from threadpoolctl import threadpool_limits

from edgetl.conversion import Artifact, ConversionOptions
from edgetl.data import Dataset
from edgetl.evaluation import ImageResult
from edgetl.learners import LastLayer, Selection, choose, relearn, to_grid

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel

FOLDS = 5
"""Folds of the cross-validation that chooses the solver."""

_SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True, eq=False)
class Quantization:
    """How a candidate was converted, where it was trained or repaired for its number format.

    `model` is the tf_keras backbone that was converted, BatchNorm folded; None for the candidate's own.
    `trained_on_photos` is true where quantization-aware training changed it after the float twin was made: the
    training photos then no longer judge it fairly. `bias_corrected` is true where int8 biases are corrected after
    the conversion.
    """

    options: ConversionOptions
    model: Optional[KerasModel] = None
    trained_on_photos: bool = False
    bias_corrected: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """One model that could ship.

    `stage` is the name of the stage that made it. `embeddings` (n, d) are raw, one row per photo of the data set.
    `model` is the float tf_keras backbone where this build trained one, None where it is as published; `history`
    holds one record per epoch of that training, and `seconds` its duration. `quantization` is None for a plain
    conversion with the build's options.
    """

    stage: str
    artifact: Artifact
    embeddings: np.ndarray
    selection: Selection
    model: Optional[KerasModel] = None
    history: tuple[Mapping[str, Any], ...] = ()
    seconds: Optional[float] = None
    quantization: Optional[Quantization] = None

    @property
    def last_layer(self) -> LastLayer:
        """Solved from all photos except the test photos."""
        return self.selection.last_layer

    @property
    def is_trained_for_int8(self) -> bool:
        """Whether quantization-aware training on the training photos changed it."""
        return self.quantization is not None and self.quantization.trained_on_photos

    def predict(self, dataset: Dataset, indices: np.ndarray) -> list[ImageResult]:
        """The predictions for the photos at `indices` of the data set, from their embeddings."""
        embeddings = to_grid(self.embeddings[indices], self.artifact.embedding["zero_point"])
        return _image_results(dataset, indices, self.last_layer.probabilities(embeddings), self.last_layer.labels)


def known_photos(dataset: Dataset) -> np.ndarray:
    """Indices of the photos that a last layer may learn from: all except the test photos."""
    return np.sort(np.concatenate([dataset.indices("train"), dataset.indices("val")]))


def solve_cross_validated(artifact: Artifact, embeddings: np.ndarray, dataset: Dataset) -> Selection:
    """The last layer for a backbone that was not trained on these photos: each can be predicted out of fold."""
    known = known_photos(dataset)
    return _choose(artifact, embeddings, dataset, dataset.folds(known, FOLDS))


def solve_held_out(artifact: Artifact, embeddings: np.ndarray, dataset: Dataset) -> Selection:
    """The last layer for a backbone that was trained on the training photos: only validation photos can judge it."""
    validation = np.isin(known_photos(dataset), dataset.indices("val"))
    return _choose(artifact, embeddings, dataset, np.where(validation, 0, -1))


def solved_from_training_photos(candidate: Candidate, dataset: Dataset) -> LastLayer:
    """The candidate's last layer without the validation photos, so that these can judge what is trained from it."""
    validation = dataset.indices("val")
    embeddings = to_grid(candidate.embeddings[validation], candidate.artifact.embedding["zero_point"])
    statistics = candidate.selection.statistics.copy()
    statistics.remove(embeddings, dataset.labels_of(validation))
    with threadpool_limits(1, "blas"):
        return relearn(candidate.last_layer, statistics, candidate.selection.parameters)


def held_out_predictions(selection: Selection, dataset: Dataset) -> list[ImageResult]:
    """The predictions for the photos that `selection` held out, by last layers that were solved without them."""
    indices = known_photos(dataset)[selection.out_of_fold_indices]
    return _image_results(dataset, indices, selection.out_of_fold_probabilities, selection.last_layer.labels)


def merit(predictions: list[ImageResult]) -> tuple[float, float]:
    """What candidates are compared by: accuracy, then mean log-probability of the right label."""
    accuracy = float(np.mean([prediction.correct for prediction in predictions]))
    probabilities = [max(prediction.probability_of_label, _SMALLEST_PROBABILITY) for prediction in predictions]
    return accuracy, float(np.mean([np.log(probability) for probability in probabilities]))


def _choose(artifact: Artifact, embeddings: np.ndarray, dataset: Dataset, folds: np.ndarray) -> Selection:
    known = known_photos(dataset)
    fixed_point = to_grid(embeddings[known], artifact.embedding["zero_point"])
    # OpenBLAS threads spin while they wait for each other: on busy cores, 10 ms of Cholesky take a second.
    with threadpool_limits(1, "blas"):
        return choose(fixed_point, dataset.labels_of(known), folds)


def _image_results(
    dataset: Dataset, indices: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...]
) -> list[ImageResult]:
    columns = {label: column for column, label in enumerate(labels)}
    return [
        ImageResult(
            source=str(dataset.samples[index].path),
            label=dataset.samples[index].label,
            predicted=labels[int(row.argmax())],
            probability=float(row.max()),
            probability_of_label=float(row[columns[dataset.samples[index].label]]),
        )
        for index, row in zip(indices, probabilities)
    ]
