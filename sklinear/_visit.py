"""What one pass over the data tells of a fit and of a dual point, for its certificate.

Sums over rows, with what rounding may add to them. Where features are far from 0 beside
their spread, rows are taken from a centre, which makes their numbers, and what rounding
hides, as small as the spread is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import row_norms

from sklinear._data import Block, Data
from sklinear._losses import Hinge, SquaredHinge
from sklinear._objective import Point, pulled_back, scores_of, visits

EPS = float(np.finfo(np.float64).eps)
EXTENDED = np.dtype(np.longdouble)
LARGEST_SUMS = 2**20  # numbers in the sums of rows by pairs of classes
STEP, SHORT = 256, 16  # rows of a sum, where it matters little and where it does
LARGEST_FEATURES = 4  # whose sums are taken in extended precision, where it matters
LARGEST_EXACT = 2**20  # operations of products in more than float64


class Visit:
    """What one pass over the data tells of W, b and a dual point U."""

    def __init__(
        self,
        d: int,
        k: int,
        fit_intercept: bool,
        dtype: Any = np.float64,
        far: float | None = None,
    ):
        self.far = far  # |m' W| of the centre that rows are taken from, at most, if any
        self.primal = self.conjugate = 0.0  # sums of w L, w L*
        # that of w (L + L* - g s), row by row: their sums would round what these are
        self.excess = 0.0
        self.size = 0.0  # sum of |U|
        self.reached = 0.0  # sum of |U_i| ||x_i||
        self.hidden = 0.0  # what rounding may leave of X' U, but for that of
        self.parts = 0.0  # so many of them together
        self.lifted = 0.0  # sum of |U_i| times the size of the terms of a score
        kind = dtype if far is None else EXTENDED  # of sums
        self.pulled, self.residual = np.zeros((d, k), kind), np.zeros(k, kind)
        self.squares = 0.0  # sum of w_i ||x_i||^2
        self.kinks = 0.0  # what rounding of scores may add to losses, beyond U times it
        self.lengths = np.zeros((k, k))  # v to sum of w_i ||move of row i||^2
        self.edges = np.zeros((k, k))  # at (y, j): sum of w_i c_ij over the class y
        self.rows: np.ndarray | None = None  # at (y, :, j): the same of w_i c_ij x_i
        if fit_intercept and k * d * k <= LARGEST_SUMS:
            self.rows = np.zeros((k, d, k))

    def __add__(self, other: Visit) -> Visit:
        """Both together."""
        both = copy.copy(self)
        for name, sums in vars(other).items():
            if sums is not None and name != "far":
                setattr(both, name, getattr(self, name) + sums)
        return both

    def add(
        self,
        block: Block,
        scores: np.ndarray,
        at: Point,
        gradient: np.ndarray,
        rescaled: bool,
    ) -> None:
        """One block's share; its dual point is made of ``gradient`` (m, k)."""
        loss = at.loss
        weights = block.weights[:, None]
        values = loss(scores, block.y)[0]
        conjugates = loss.conjugate(gradient, block.y)
        self.primal += float(values @ block.weights)
        self.conjugate += float(conjugates @ block.weights)
        excess = values + conjugates - (gradient * scores).sum(axis=1)
        self.excess += float(excess @ block.weights)
        U = gradient * weights
        sizes = np.abs(U).sum(axis=1)
        self.size += float(sizes.sum())
        squares = row_norms(block.X.astype(np.float64, copy=False), squared=True)
        self.squares += float(squares @ block.weights)
        norms = np.sqrt(squares)
        self.reached += (reached := float(sizes @ norms))
        self._pull(block, U, sizes, reached)
        terms, eps = self._terms(block, at, norms), float(np.finfo(scores.dtype).eps)
        # those of the intercept were added up in extended precision
        whole = terms + float(np.finfo(EXTENDED).eps) / eps * (self.far or 0.0)
        self.lifted += float(sizes @ whole)
        if isinstance(loss, Hinge):
            self._add_kinks(block, scores, at, gradient, terms, whole, rescaled)
            return
        off = 16 * eps * whole
        if isinstance(loss, SquaredHinge):
            near = (loss.margins(scores, block.y) > -off[:, None]).sum(axis=1) - 1
            hidden = near * off**2
        else:
            hidden = bent(values, off)
        self.kinks += float(hidden @ block.weights)

    def _pull(
        self, block: Block, U: np.ndarray, sizes: np.ndarray, size: float
    ) -> None:
        """X' U, of rows less a centre with the sums of the largest features in extended
        precision: there their rounding matters."""
        kind, X, eps = self.pulled.dtype, block.X, float(np.finfo(U.dtype).eps)
        near, sparse = self.far is not None, scipy.sparse.issparse(X)
        step = SHORT if near else len(U) if sparse else STEP
        pulled, count = summed_up(X, U, step)
        if near and U.dtype != EXTENDED:
            each = np.asarray(sizes @ abs(X)).ravel()  # sums of |U_i| |x_i|
            largest = np.argsort(each)[-LARGEST_FEATURES:]
            part = X[:, largest]
            part = part.toarray() if sparse else part
            pulled[largest], parts = summed_exactly(part, U, block.y)
            self.hidden += parts * float(np.linalg.norm(each[largest]))
            each[largest] = 0
            size = float(np.linalg.norm(each))
        self.hidden += eps * (count + 1) * size  # 1 as a row of U has its own rounding
        self.pulled += pulled
        self.parts += 1
        self.residual += U.sum(axis=0, dtype=kind)

    def _terms(self, block: Block, at: Point, norms: np.ndarray) -> np.ndarray:
        """The size of the terms of a score (m,), at most: rounding is relative to it.

        Feature by feature where a feature may be large and have a small coefficient.
        """
        largest = float(np.abs(at.b).max())
        if self.far is None:
            return norms * float(np.linalg.norm(at.W)) + largest
        terms = np.abs(block.X) @ np.abs(at.W).max(axis=1).astype(block.dtype)
        return terms.astype(np.float64) + largest

    def _add_kinks(
        self,
        block: Block,
        scores: np.ndarray,
        at: Point,
        gradient: np.ndarray,
        terms: np.ndarray,
        whole: np.ndarray,
        rescaled: bool,
    ) -> None:
        """What rounding hides of the hinge: its slope is 1 where U may be nearly 0.

        Rows that count are scored once more, more exactly, where they are few; what
        rounding did to W and b themselves, if they are ``rescaled``, stays.
        """
        loss, y = at.loss, block.y
        assert isinstance(loss, Hinge)
        eps = float(np.finfo(scores.dtype).eps)
        off = 16 * eps * whole
        near = (loss.margins(scores, y) > -off[:, None]).sum(axis=1) - 1
        rows = np.flatnonzero(near)
        if eps == EPS and len(rows) * at.W.size <= LARGEST_EXACT:
            X = block.exact(rows)
            exact = scores_of(X, at.W.astype(EXTENDED), at.b)
            change = loss(exact, y[rows])[0] - loss(scores[rows], y[rows])[0]
            self.primal += float(change @ block.weights[rows])
            change = change - (gradient[rows] * (exact - scores[rows])).sum(axis=1)
            self.excess += float(change @ block.weights[rows])
            off = 16 * float(np.finfo(EXTENDED).eps) * (terms + (self.far or 0.0))
        if rescaled:
            off += eps * whole
        self.kinks += float((off * near) @ block.weights)

    def add_leeway(self, block: Block, c: np.ndarray) -> None:
        """The sums by class of one block's leeway (m, k)."""
        wc, k = block.weights[:, None] * c, len(self.edges)
        if self.rows is not None:
            order = np.argsort(block.y, kind="stable")
            X, y, wc = block.X[order], block.y[order], wc[order]
            ends = np.searchsorted(y, np.arange(k + 1))
            for j in np.flatnonzero(np.diff(ends)):
                own = slice(ends[j], ends[j + 1])
                self.edges[j] += wc[own].sum(axis=0)
                self.rows[j] += X[own].T @ wc[own]
            return
        of_class = np.ones(len(c)), (block.y, np.arange(len(c)))
        of_class = scipy.sparse.csr_matrix(of_class, (k, len(c)))
        self.edges += of_class @ wc
        Q = c.T @ wc  # of the v_j - v_y: sum_j (c_j v_j)^2 + (sum_j c_j v_j)^2
        np.einsum("ii->i", Q)[:] *= 2
        totals = of_class @ (wc * (c.sum(axis=1)[:, None] + c))
        self.lengths += Q - totals - totals.T
        np.einsum("ii->i", self.lengths)[:] += totals.sum(axis=1)


def roundings(count: float) -> float:
    """In units of eps, what a sum of so many terms is off by, relative to their sizes,
    whatever their order, and that to its like."""
    return count / 2 + 1


def summed_up(X: Any, U: np.ndarray, step: int) -> tuple[np.ndarray, float]:
    """X' U (d, k), of some rows at a time, and its ``roundings``.

    Sums of so few rows are added up in extended precision. Of sparse rows, those at a
    time hold as many numbers as there are features.
    """
    m, (d, k) = len(U), (X.shape[1], U.shape[1])
    if scipy.sparse.issparse(X):
        step = max(step, m * d // max(X.nnz, 1))
        step = m if d * k > LARGEST_SUMS else step
    if m <= step or U.dtype == EXTENDED:
        return pulled_back(X, U), roundings(m)
    pulled = np.zeros((d, k), EXTENDED)
    for first in range(0, m, step):
        rows = slice(first, first + step)
        pulled += pulled_back(X[rows], U[rows])
    parts = float(np.finfo(EXTENDED).eps) / EPS * m / step
    return pulled, roundings(step) + roundings(parts)


def summed_exactly(
    X: np.ndarray, U: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, float]:
    """The same of few features in extended precision, the own class as it follows from
    the others; and what rounding leaves, relative to the sums of |U_i| |x_i|."""
    X, U, index = X.astype(EXTENDED), U.astype(EXTENDED), (np.arange(len(U)), y)
    U[index] = 0
    U[index] = -U.sum(axis=1)
    parts = range(0, len(U), STEP)
    pulled = sum(X[first : first + STEP].T @ U[first : first + STEP] for first in parts)
    count = roundings(STEP) + roundings(len(parts)) + U.shape[1]
    return np.asarray(pulled), count * float(np.finfo(EXTENDED).eps)


def bent(values: np.ndarray, off: np.ndarray) -> np.ndarray:
    """What the softmax may grow by, beyond its gradient times what scores are off.

    As they all are by ``off`` (m,) at most, its ``values`` (m,) are up to exp(2 off)
    times as large, less what a score each adds: of exp(x) - 1 - x <= 1.1 x^2, x <= 2.
    """
    return np.where(off < 1, 5 * values * off**2, 2 * off)


def visited(
    data: Data,
    at: Point,
    reach: float,
    fit_intercept: bool,
    witness: np.ndarray | Point | None,
    rescaled: bool,
    centre: np.ndarray | None = None,
) -> Visit:
    """One pass over a part of the data; ``at`` is for rows less the centre, if any.

    ``witness``, which need not be exact, is for the rows as they are.
    """
    far = None if centre is None else float(np.abs(centre) @ np.abs(at.W).max(axis=1))
    visit = Visit(len(at.W), data.n_classes, fit_intercept, data.dtype, far)
    for block, scores, gradient in _gradients(data, data.less(centre), at, witness):
        visit.add(block, scores, at, gradient, rescaled)
        if fit_intercept:
            visit.add_leeway(block, at.loss.leeway(gradient, block.y, reach))
    return visit


def _gradients(
    data: Data, exact: Data, at: Point, witness: np.ndarray | Point | None
) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    """Each block, its scores, and a dual point (m, k): score gradients of its rows.

    A hinge's gradient at the scores is 0 or 1 and proves nothing; that of the hinge
    rounded over its margin stands in for a solver's.
    """
    if not isinstance(at.loss, Hinge):
        data, witness = exact, at
    elif witness is None:
        data, rounded = exact, Hinge(at.loss.delta, width=at.loss.delta)
        witness = at._replace(loss=rounded)
    if isinstance(witness, Point) and data is exact:
        others = () if witness is at else ((at.W, at.b),)
        for block, loss, scores in visits(exact, witness, *others):
            yield block, scores[-1], loss(scores[0], block.y)[1]
        return
    if isinstance(witness, Point):
        both = zip(visits(data, witness), visits(exact, at), strict=True)
        for (_, loss, own), (block, _, scores) in both:
            yield block, scores[0], loss(own[0], block.y)[1]
        return
    for block, _, scores in visits(exact, at):
        part, weights = witness[block.rows], block.weights[:, None]
        U = np.zeros(part.shape, data.dtype)
        np.divide(part, weights, out=U, where=weights > 0)
        np.clip(U, 0, 1, out=U)  # feasible, whatever rounding left
        index = np.arange(len(U)), block.y
        U[index] = 0
        U[index] = -U.sum(axis=1)
        yield block, scores[0], U
