"""Ridge regression on one-hot labels, every class with the same total weight in the intercept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import OptionError
from edgetl.learners.moments import Moments, solve_positive
from edgetl.learners.statistics import Statistics

NAME = "ridge"


def solve(
    statistics: Statistics, penalty: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (d, K) and bias (K,).

    Args:
        statistics: of embeddings on the grid.
        penalty: the ridge, in units of the mean eigenvalue of the total scatter; larger is smoother.

    Raises:
        OptionError: the penalty is not positive.
    """
    if not penalty > 0:
        raise OptionError(f"penalty is {penalty}; give a number above 0")
    moments = Moments.of(statistics)
    share = moments.counts / moments.counts.sum()
    centre = share @ moments.means
    offsets = moments.means - centre
    total = moments.scatter + (offsets.T * moments.counts) @ offsets
    total.flat[:: len(total) + 1] += penalty * max(np.trace(total) / len(total), moments.spread)
    # The targets are centred too, and what is left of X'Y are the sums of the centred embeddings.
    weights = solve_positive(total, offsets.T * moments.counts)
    bias = share - centre @ weights
    return weights.astype(np.float32), bias.astype(np.float32)
