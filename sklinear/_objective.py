"""The weighted mean loss + alpha ||W||^2 of one params matrix: the room that knows X.

The data term is a sum over row blocks, and every product with X goes through one of two
half passes: ``push`` takes params to scores, ``pull`` a gradient in the scores back to
one in the params. ``evaluate`` does both on one block before it reads the next.

Solvers work in other variables than the user's: features are centred through the
intercept and multiplied by a factor T that makes the curvature nearly round,

    W = T V,    b = c - mean' W,    scores = (X - 1 mean') T V + 1 c',

so that the way to the optimum depends neither on where the features lie nor on how they
are scaled, and the optimum is the same. X itself is not shifted, scaled or copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse

from sklinear.losses import Loss

# Beyond this many features a (d, d) factor costs more than it saves.
LARGEST_FACTOR = 1024
# Block sizes, in numbers: scores that stay in the cache, a cast block small beside X.
BLOCK_SCORES, BLOCK_VALUES = 2**16, 2**20


class Block(NamedTuple):
    """Some rows of the data."""

    X: Any  # (m, d), dense or CSR
    y: np.ndarray  # (m,)
    weights: np.ndarray  # (m,)
    rows: slice


class Data:
    """X, labels and normalised weights, in row blocks that are views of them."""

    def __init__(
        self,
        X: Any,
        y: np.ndarray,
        weights: np.ndarray,
        n_classes: int,
        dtype: Any = None,
    ):
        self.dtype = np.dtype(X.dtype if dtype is None else dtype)
        self.sparse = scipy.sparse.issparse(X)
        # a cast of CSR values is made once and whole: its indices stay shared
        self.X = X.astype(self.dtype, copy=False) if self.sparse else X
        self.y, self.weights, self.n_classes = y, weights, n_classes

    def __iter__(self) -> Iterator[Block]:
        for block in self._views:
            yield block._replace(X=block.X.astype(self.dtype, copy=False))

    @cached_property
    def _views(self) -> list[Block]:
        n, d = self.X.shape
        step = max(256, min(BLOCK_SCORES // self.n_classes, BLOCK_VALUES // d))
        if self.sparse and d * self.n_classes > step:
            step = n  # each block's gradient would cost more than its rows
        views = []
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            X = _csr_rows(self.X, rows) if self.sparse else self.X[rows]
            views.append(Block(X, self.y[rows], self.weights[rows], rows))
        return views

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

    def __iter__(self) -> Iterator[Block]:
        n, d = self.X.shape
        step = n
        if not self.sparse:
            step = max(256, min(BLOCK_SCORES // self.n_classes, BLOCK_VALUES // d))
        if step >= n:
            X = self.X if self.sparse else self.X.astype(self.dtype, copy=False)
            yield Block(X, self.y, self.weights, slice(0, n))
            return
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            X = self.X[rows].astype(self.dtype, copy=False)
            yield Block(X, self.y[rows], self.weights[rows], rows)


def _csr_rows(X: Any, rows: slice) -> Any:
    """Some rows of a CSR matrix, sharing its memory."""
    first, last = X.indptr[rows.start], X.indptr[rows.stop]
    view = scipy.sparse.csr_matrix((rows.stop - rows.start, X.shape[1]), dtype=X.dtype)
    view.data, view.indices = X.data[first:last], X.indices[first:last]
    view.indptr = X.indptr[rows.start : rows.stop + 1] - first
    return view


@dataclass(frozen=True)
class Variables:
    """W = T V and b = c - mean' W; T is a (d,) diagonal or a (d, d) matrix."""

    mean: np.ndarray  # (d,), 0 without an intercept
    factor: np.ndarray

    def apply(self, X: Any) -> np.ndarray:
        """(X - 1 mean') T of some rows, dense."""
        if scipy.sparse.issparse(X):
            factor = self.factor if self.factor.ndim == 2 else np.diag(self.factor)
            return X @ factor - self.mean @ factor
        Z = X - self.mean
        return Z * self.factor if self.factor.ndim == 1 else Z @ self.factor

    @property
    def gram(self) -> np.ndarray:
        """T' T, (d, d)."""
        if self.factor.ndim == 1:
            return np.diag(self.factor**2)
        return self.factor.T @ self.factor

    def coef(self, V: np.ndarray) -> np.ndarray:
        """T V."""
        if self.factor.ndim == 1:
            return self.factor[:, None] * V
        return self.factor @ V

    def transpose(self, gradient: np.ndarray) -> np.ndarray:
        """T' g: a gradient in W as one in V."""
        if self.factor.ndim == 1:
            return self.factor[:, None] * gradient
        return self.factor.T @ gradient

    def inverse(self, W: np.ndarray) -> np.ndarray:
        """The V of a W; 0 for features that T leaves out."""
        if self.factor.ndim == 1:
            used = self.factor[:, None] > 0
            return np.divide(W, self.factor[:, None], out=np.zeros_like(W), where=used)
        return scipy.linalg.solve(self.factor, W)


class Evaluation(NamedTuple):
    """What one visit to the data tells about one point."""

    value: float  # of the loss that is minimised, smoothed or not, plus penalty
    gradient: np.ndarray  # its derivative in the params
    primal: float  # value of the loss itself plus penalty
    coef: np.ndarray  # W (d, k)
    pulled: np.ndarray  # X' U, features centred (d, k); U (n, k) is the score gradient
    residual: np.ndarray  # 1' U (k,), the gradient in the intercept
    conjugate: float  # sum_i w_i L*(U_i / w_i); nan unless asked for


class Objective:
    """P(W, b) = sum_i w_i L(S_i, y_i) + alpha ||W||_F^2, in the solvers' variables.

    ``params`` is V on top of the centred intercept c, (d + 1, k), or V alone.
    """

    def __init__(
        self,
        data: Data,
        loss: Loss,
        alpha: float,
        fit_intercept: bool,
        variables: Variables,
    ):
        self.data, self.loss, self.alpha = data, loss, alpha
        self.fit_intercept, self.variables = fit_intercept, variables

    def replace(self, **changes: Any) -> Objective:
        """A copy with some parts replaced."""
        parts = {name: getattr(self, name) for name in
                 ("data", "loss", "alpha", "fit_intercept", "variables")}
        return Objective(**parts | changes)

    @property
    def shape(self) -> tuple[int, int]:
        """Of params."""
        return self.data.X.shape[1] + self.fit_intercept, self.data.n_classes

    def split(self, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W (d, k) and the intercept b (k,) of the user's uncentred features."""
        d = self.data.X.shape[1]
        W = self.variables.coef(params[:d])
        if not self.fit_intercept:
            return W, np.zeros(W.shape[1])
        return W, params[d] - self.variables.mean @ W

    def join(self, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The params of a W and b: the inverse of ``split``."""
        V = self.variables.inverse(W)
        if not self.fit_intercept:
            return V
        return np.vstack([V, b + self.variables.mean @ W])

    def push(self, params: np.ndarray) -> list[np.ndarray]:
        """Scores of each block, (m, k), contiguous columns."""
        W, b = self._working(*self.split(params))
        return [scores_of(block.X, W, b) for block in self.data]

    def pull(self, U: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Centred X' U (d, k) and 1' U (k,) of score gradients."""
        pulled = np.zeros((self.data.X.shape[1], self.data.n_classes))
        residual = np.zeros(self.data.n_classes)
        for block, u in zip(self.data, U, strict=True):
            pulled += block.X.T @ u
            residual += u.sum(axis=0, dtype=np.float64)
        return self._centred(pulled, residual), residual

    def evaluate(self, params: np.ndarray, conjugate: bool = False) -> Evaluation:
        """Value and gradient; each block of X is read once."""
        W, b = self.split(params)
        working = self._working(W, b)
        value = primal = dual = 0.0
        pulled, residual = np.zeros(W.shape), np.zeros(W.shape[1])
        for block in self.data:
            scores = scores_of(block.X, *working)
            v, p, u, c = self.rows(block, scores, conjugate)
            value, primal, dual = value + v, primal + p, dual + c
            pulled += block.X.T @ u
            residual += u.sum(axis=0, dtype=np.float64)
        return self.assemble(
            W, value, primal, dual, self._centred(pulled, residual), residual
        )

    def rows(
        self, block: Block, scores: np.ndarray, conjugate: bool = False
    ) -> tuple[float, float, np.ndarray, float]:
        """Value, primal value, U and conjugate of one block, from its scores."""
        loss = self.loss.rows(block.rows)
        values, U = loss(scores, block.y)
        value = primal = float(values @ block.weights)
        if loss.exact is not loss:
            primal = float(loss.exact(scores, block.y)[0] @ block.weights)
        dual = np.nan
        if conjugate:
            dual = float(loss.exact.conjugate(U, block.y) @ block.weights)
        U *= block.weights[:, None]
        return value, primal, U, dual

    def assemble(
        self,
        W: np.ndarray,
        value: float,
        primal: float,
        conjugate: float,
        pulled: np.ndarray,
        residual: np.ndarray,
    ) -> Evaluation:
        """The data's sums with the penalty added, in the solvers' variables."""
        penalty = self.alpha * float(np.vdot(W, W))
        gradient = self.gradient(W, pulled, residual)
        return Evaluation(
            value + penalty, gradient, primal + penalty, W, pulled, residual, conjugate
        )

    def gradient(
        self, W: np.ndarray, pulled: np.ndarray, residual: np.ndarray
    ) -> np.ndarray:
        """Derivative in the params, from W and what was pulled back to it."""
        gradient = self.variables.transpose(pulled + 2 * self.alpha * W)
        return np.vstack([gradient, residual]) if self.fit_intercept else gradient

    def features(self, block: Block) -> np.ndarray:
        """(X - 1 mean') T of a block and the intercept's ones: d(scores)/d(params)."""
        Z = self.variables.apply(block.X)
        return np.hstack([Z, np.ones((len(Z), 1))]) if self.fit_intercept else Z

    def _working(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W and b in the precision of the products with X."""
        return W.astype(self.data.dtype), b.astype(self.data.dtype)

    def _centred(self, pulled: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """X' U as (X - 1 mean')' U."""
        if self.fit_intercept:
            pulled -= np.outer(self.variables.mean, residual)
        return pulled


def scores_of(X: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """X W + b (m, k) with contiguous columns, which reductions over classes like."""
    if scipy.sparse.issparse(X):
        scores = np.asfortranarray(X @ W)
    else:
        scores = (W.T @ X.T).T
    scores += b
    return scores


# Change of variables ------------------------------------------------------------------


def choose_variables(
    data: Data, alpha: float, curvature: float | np.ndarray, fit_intercept: bool
) -> Variables:
    """Centre and scale so that the Hessian's bound is nearly the identity.

    With C the covariance of the rows, weighted by their weights and the curvature (n,)
    of their losses, T T' = (C + 2 alpha I)^-1, in the manner of Boehning (1992) who
    bounds the softmax's by 1/2; or, where d is large or X sparse, the same of C's
    diagonal. O(n d^2 + d^3) time and O(d^2) memory, or O(n d) and O(d).
    """
    d = data.X.shape[1]
    curvatures = data.weights * curvature  # (n,)
    total = curvatures.sum()
    mean = np.zeros(d)
    if fit_intercept:
        for block in data:
            mean += block.X.T @ (curvatures[block.rows] / total)
    if data.sparse:
        each = np.repeat(curvatures, np.diff(data.X.indptr))
        squares = np.square(data.X.data, dtype=np.float64)
        bound = np.bincount(data.X.indices, weights=each * squares, minlength=d)
        bound = np.maximum(bound - total * mean**2, 0)
        return Variables(mean, _inverse_root(bound + 2 * alpha))
    diagonal = d > LARGEST_FACTOR
    bound = np.zeros(d if diagonal else (d, d))
    for block in data:
        centred = block.X - mean
        each = curvatures[block.rows]
        if diagonal:
            bound += each @ np.square(centred)
        else:
            bound += centred.T @ (each[:, None] * centred)
    if diagonal:
        return Variables(mean, _inverse_root(bound + 2 * alpha))
    bound.flat[:: d + 1] += 2 * alpha
    scale = _inverse_root(np.diag(bound))  # a unit diagonal first, for Cholesky's sake
    bound *= scale
    bound *= scale[:, None]
    bound.flat[:: d + 1] += 1e-10  # duplicate columns at alpha = 0
    L = scipy.linalg.cholesky(bound, lower=True)
    T = scipy.linalg.solve_triangular(L, np.eye(d), lower=True, trans="T")
    return Variables(mean, scale[:, None] * T)


def _inverse_root(diagonal: np.ndarray) -> np.ndarray:
    """1 / sqrt(x), and 0 for a feature with no variance and no penalty."""
    return np.divide(
        1, np.sqrt(diagonal), out=np.zeros_like(diagonal), where=diagonal > 0
    )
