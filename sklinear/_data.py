"""X, labels and weights, cut into row blocks: what a pass over the data reads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

# Block sizes, in numbers: scores that stay in the cache, a cast block small beside X.
BLOCK_SCORES, BLOCK_VALUES = 2**16, 2**20
# Rows of a block at least, lest its gradient cost more than its rows; fewer where wide
# rows are cast, lest the cast block be as large as X.
FEWEST_ROWS, FEWEST_CAST_ROWS = 256, 32


class Block(NamedTuple):
    """Some rows of the data."""

    X: Any  # (m, d), dense or CSR
    y: np.ndarray  # (m,)
    weights: np.ndarray  # (m,)
    rows: slice


def computing_dtype(dtype: Any) -> np.dtype:
    """What X of a dtype is computed in: floats as they are, integers in float64."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


class Data:
    """X, labels and normalised weights, in row blocks that are views of them.

    Where X has another dtype than the products with it, blocks are cast one at a time.
    """

    def __init__(
        self,
        X: Any,
        y: np.ndarray,
        weights: np.ndarray,
        n_classes: int,
        dtype: Any = None,
    ):
        self.dtype = computing_dtype(X.dtype if dtype is None else dtype)
        self.sparse = scipy.sparse.issparse(X)
        # a cast of CSR values is made once and whole: its indices stay shared
        self.X = X.astype(self.dtype, copy=False) if self.sparse else X
        self.y, self.weights, self.n_classes = y, weights, n_classes

    def __iter__(self) -> Iterator[Block]:
        if self.X.dtype == self.dtype:
            yield from self._views
            return
        for block in self._views:
            yield block._replace(X=block.X.astype(self.dtype))

    @cached_property
    def _views(self) -> list[Block]:
        n, d = self.X.shape
        fewest = FEWEST_ROWS if self.X.dtype == self.dtype else FEWEST_CAST_ROWS
        step = max(fewest, min(BLOCK_SCORES // self.n_classes, BLOCK_VALUES // d))
        if self.sparse and d > step:
            step = n  # each block's gradient would cost more than its rows
        views = []
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            X = _csr_rows(self.X, rows) if self.sparse else self.X[rows]
            views.append(Block(X, self.y[rows], self.weights[rows], rows))
        return views

    def take(self, rows: Any) -> Any:
        """X of some rows, (m, d)."""
        return self.X[rows].astype(self.dtype, copy=False)

    @cached_property
    def class_masses(self) -> np.ndarray:
        """Total weight of each class, (k,)."""
        return np.bincount(self.y, self.weights, self.n_classes)

    @cached_property
    def class_sums(self) -> np.ndarray:
        """Weighted sum of the rows of each class, (d, k)."""
        sums = np.zeros((self.X.shape[1], self.n_classes))
        for block in self:
            shares = np.zeros((len(block.y), self.n_classes), self.dtype, order="F")
            shares[np.arange(len(block.y)), block.y] = block.weights
            sums += block.X.T @ shares
        return sums

    def astype(self, dtype: Any) -> Data:
        """The same data, with products computed in another precision."""
        return Data(self.X, self.y, self.weights, self.n_classes, dtype)


def _csr_rows(X: Any, rows: slice) -> Any:
    """Some rows of a CSR matrix, sharing its memory."""
    first, last = X.indptr[rows.start], X.indptr[rows.stop]
    view = scipy.sparse.csr_matrix((rows.stop - rows.start, X.shape[1]), dtype=X.dtype)
    view.data, view.indices = X.data[first:last], X.indices[first:last]
    view.indptr = X.indptr[rows.start : rows.stop + 1] - first
    return view
