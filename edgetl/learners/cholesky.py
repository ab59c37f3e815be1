"""Solves large positive definite systems quickly with numpy alone, by a blocked Cholesky factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Cholesky:
    """The Cholesky factor L of a symmetric positive definite matrix, L L' = matrix, in the matrix's own precision.

    numpy has no triangular solver, and its own factorisation transposes the whole matrix twice. So factorisation and
    substitution go block by block, and nearly all of the work is matrix products.
    """

    def __init__(self, matrix: NDArray[Any]) -> None:
        """Factorise an (n, n) matrix; only its lower triangle is read.

        Raises:
            LinAlgError: the matrix is not positive definite.
        """
        self._lower = np.empty_like(matrix)
        self._inverses: list[NDArray[Any]] = []
        self._blocks = [slice(start, min(start + _BLOCK, len(matrix))) for start in range(0, len(matrix), _BLOCK)]
        for block in self._blocks:
            left = self._lower[block.start :, : block.start]
            panel = matrix[block.start :, block] - left @ self._lower[block, : block.start].T
            width = panel.shape[1]
            inverse = np.linalg.inv(np.linalg.cholesky(panel[:width]))
            self._lower[block.stop :, block] = panel[width:] @ inverse.T
            self._inverses.append(inverse)

    def forward(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return (m, n): L^-1 times each of the rows (m, n)."""
        x = rows.astype(self._lower.dtype)
        for block, inverse in zip(self._blocks, self._inverses):
            x[:, block] -= x[:, : block.start] @ self._lower[block, : block.start].T
            x[:, block] = x[:, block] @ inverse.T
        return x

    def backward(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return (m, n): L'^-1 times each of the rows (m, n)."""
        x = rows.astype(self._lower.dtype)
        for block, inverse in zip(reversed(self._blocks), reversed(self._inverses)):
            x[:, block] -= x[:, block.stop :] @ self._lower[block.stop :, block]
            x[:, block] = x[:, block] @ inverse
        return x

    def solve(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return (m, n): the inverse of the matrix times each of the rows (m, n)."""
        return self.backward(self.forward(rows))


_BLOCK = 64
