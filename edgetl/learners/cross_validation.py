"""Hides how every solver predicts what it has not seen, without repeating work; selection calls it."""

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
    """What layers that had not seen them say of the embeddings `indices` (m,).

    A class that was missing outside the fold gets the lowest score, and an infinite distance.

    Attributes:
        indices: (m,).
        scores: (m, K) by each solver.
        whitened: (m, K) squared distances to the classes; see novelty.Span.
        plain: (m, K) squared distances to the class means.
    """

    indices: NDArray[np.int64]
    scores: dict[str, Floats]
    whitened: Floats
    plain: Floats


def predict(embeddings: NDArray[np.int16], y: NDArray[np.int64], folds: NDArray[Any], total: Statistics) -> OutOfFold:
    """Predict each fold from 0 by layers solved from everything else.

    Args:
        embeddings: (n, d) on the grid.
        y: (n,) slots in the statistics.
        folds: (n,) int; what is in fold -1 is always learned from.
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
        slots, y_rest = np.unique(y[rest], return_inverse=True)
        if coordinates is None:
            moments = _moments_without(total, embeddings[members], y[members])
            rows: NDArray[Any] = unit_length(embeddings[members])
        else:
            moments = Moments.of_rows(coordinates[rest], y_rest, embeddings.shape[1])
            rows = coordinates[members]
        _predict_fold(predicted, moments, rows, np.searchsorted(indices, members), slots)
    return predicted


_JITTER = 1e-9


def _predict_fold(
    predicted: OutOfFold,
    moments: Moments,
    rows: NDArray[Any],
    places: NDArray[np.int64],
    slots: NDArray[np.int64],
) -> None:
    """All solvers, and the distances, share one factorisation."""
    cells = (places[:, None], slots)
    directions = Directions.of(moments, SHRINKAGE)
    for name, solver in SOLVERS.items():
        weights, bias = solver.from_directions(directions)
        scores = rows @ weights + bias
        predicted.scores[name][places] = scores.min(axis=1, keepdims=True)
        predicted.scores[name][cells] = scores
    span = Span.of(directions)
    predicted.whitened[cells] = span.whitened(rows)
    predicted.plain[cells] = span.plain(rows)


def _coordinates(embeddings: NDArray[np.int16]) -> Optional[NDArray[Any]]:
    """(n, n) rows with the inner products of the embeddings, where these are fewer than their dimension.

    Solvers see embeddings through inner products alone, so in these coordinates, a Cholesky factor of all of
    them, they find the same scores from smaller systems.
    """
    if len(embeddings) >= embeddings.shape[1]:
        return None
    unit = embeddings / np.float64(GRID)
    products = unit @ unit.T
    products.flat[:: len(products) + 1] += _JITTER
    return np.linalg.cholesky(products)


def _moments_without(total: Statistics, embeddings: NDArray[np.int16], y: NDArray[np.int64]) -> Moments:
    rest = total.copy()
    rest.remove(embeddings, [total.labels[slot] for slot in y])
    return Moments.of(rest)
