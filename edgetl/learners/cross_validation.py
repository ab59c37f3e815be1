"""Predicts embeddings out of fold by every solver, with one factorisation per fold."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from edgetl.learners.fixed_point import GRID
from edgetl.learners.last_layer import Floats, unit_length
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE, Span
from edgetl.learners.solvers import SOLVERS
from edgetl.learners.statistics import Statistics


class OutOfFold(NamedTuple):
    """Predictions of the embeddings `indices` (m,) by layers that had not seen them.

    A class with no embeddings outside the fold gets the lowest score and an infinite distance.

    Attributes:
        indices: (m,) int64.
        scores: by solver name, (m, K) float32.
        whitened: (m, K) float32, squared distances to the classes; see `novelty.Span.whitened`.
        plain: (m, K) float32, squared distances to the class means.
    """

    indices: NDArray[np.int64]
    scores: dict[str, Floats]
    whitened: Floats
    plain: Floats


def predict(embeddings: NDArray[np.int16], y: NDArray[np.int64], folds: NDArray[Any], total: Statistics) -> OutOfFold:
    """Predict each fold by layers solved from all other embeddings.

    Args:
        embeddings: (n, d) int16, fixed-point.
        y: (n,) class indices, in the order of the statistics' labels.
        folds: (n,) int; fold -1 is always learned from and never predicted.
        total: statistics of all the embeddings.
    """
    indices = np.flatnonzero(folds >= 0)
    shape = (len(indices), len(total.labels))
    predicted = OutOfFold(
        indices,
        {solver: np.empty(shape, dtype=np.float32) for solver in SOLVERS},
        np.full(shape, np.inf, dtype=np.float32),
        np.full(shape, np.inf, dtype=np.float32),
    )
    coordinates = _coordinates(embeddings)
    for fold in np.unique(folds[indices]):
        members, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        known, y_rest = np.unique(y[rest], return_inverse=True)
        if coordinates is None:
            moments = _moments_without(total, embeddings[members], y[members])
            rows: NDArray[Any] = unit_length(embeddings[members])
        else:
            moments = Moments.of_rows(coordinates[rest], y_rest, embeddings.shape[1])
            rows = coordinates[members]
        _predict_fold(predicted, moments, rows, np.searchsorted(indices, members), known)
    return predicted


_JITTER = 1e-9


def _predict_fold(
    predicted: OutOfFold,
    moments: Moments,
    rows: NDArray[Any],
    positions: NDArray[np.int64],
    known: NDArray[np.int64],
) -> None:
    """Fill the rows `positions` and the columns `known` of `predicted`, by all solvers."""
    cells = (positions[:, None], known)
    directions = Directions.of(moments, SHRINKAGE)
    for name, solver in SOLVERS.items():
        weights, bias = solver.from_directions(directions)
        scores = rows @ weights + bias
        predicted.scores[name][positions] = scores.min(axis=1, keepdims=True)
        predicted.scores[name][cells] = scores
    span = Span.of(directions)
    predicted.whitened[cells] = span.whitened(rows)
    predicted.plain[cells] = span.plain(rows)


def _coordinates(embeddings: NDArray[np.int16]) -> Optional[NDArray[Any]]:
    """(n, n) rows with the same inner products as the n embeddings; None if n is not below their dimension.

    Solvers use embeddings only through inner products. So in these coordinates, a Cholesky factor of the matrix of
    all inner products, they find the same scores from smaller systems.
    """
    if len(embeddings) >= embeddings.shape[1]:
        return None
    unit = embeddings / np.float64(GRID)
    products = unit @ unit.T
    products.flat[:: len(products) + 1] += _JITTER
    return np.linalg.cholesky(products)


def _moments_without(total: Statistics, embeddings: NDArray[np.int16], y: NDArray[np.int64]) -> Moments:
    rest = total.copy()
    rest.remove(embeddings, [total.labels[index] for index in y])
    return Moments.of(rest)
