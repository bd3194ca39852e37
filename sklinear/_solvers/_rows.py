"""Fewer rows than features: the same problem in the space that the rows span.

The optimal W is a combination of the centred rows, X - 1 mean' = R Q' with orthonormal
Q (d, r), r <= n: W = Q V has the norm of V and the scores R V. Q itself is not formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklinear._data import Data

COLUMNS = 2**20  # numbers of X that are centred at a time
NEGLIGIBLE = 1e-14  # squared singular values, relative to the largest


@dataclass(frozen=True)
class RowSpace:
    """The data ``R`` in the rows' own axes, and the way there and back."""

    original: Data
    data: Data
    mean: np.ndarray  # (d,), 0 without an intercept
    axes: np.ndarray  # (n, r): Q = (X - 1 mean')' axes

    @classmethod
    def of(cls, data: Data, fit_intercept: bool) -> RowSpace:
        """From the eigenvectors of the rows' inner products. O(n^2 d + n^3) time."""
        X, n = data.X, data.X.shape[0]
        if data.sparse:  # their products may be beyond float32, or too inexact there
            X = X.astype(np.float64, copy=False)
        mean = np.zeros(X.shape[1])
        if fit_intercept:
            for block in data:
                mean += block.X.T @ block.weights
        products = np.zeros((n, n))
        data.tally.rows += n
        if data.sparse:
            inner = (X @ X.T).tocoo()
            products[inner.row, inner.col] = inner.data
            shift = X @ mean
            products += mean @ mean - shift - shift[:, None]
        else:
            step = max(1, COLUMNS // n)
            for start in range(0, X.shape[1], step):
                columns = slice(start, start + step)
                centred = X[:, columns] - mean[columns]
                products += centred @ centred.T
        squares, vectors = np.linalg.eigh(products)
        kept = squares > max(NEGLIGIBLE * squares[-1], 0)
        lengths, vectors = np.sqrt(squares[kept]), vectors[:, kept]
        rotated = Data(
            vectors * lengths, data.y, data.weights, data.n_classes, tally=data.tally
        )
        return cls(data, rotated, mean, vectors / lengths)

    def narrow(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V = Q' W and the intercept of the centred rows."""
        shift = self.mean @ W
        scores = np.vstack([block.X @ W for block in self.original])
        return self.axes.T @ (scores - shift), b + shift

    def widen(self, V: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W = Q V and the intercept of the rows as they are."""
        A = self.axes @ V
        W = -np.outer(self.mean, A.sum(axis=0))
        for block in self.original:
            W += block.X.T @ A[block.rows]
        return W, c - self.mean @ W
