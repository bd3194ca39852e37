"""The Hessian at a point: products with it, and inverses of its diagonal blocks.

Few rows make up most of a Hessian: those near a boundary. Products visit a sample of
the rows, each drawn with a probability in proportion to its curvature and weighted by
the inverse (importance sampling; Xu et al. 2016, "Sub-sampled Newton methods with
non-uniform sampling"), and the inverse blocks need no more rows than a few times their
size. Together they make conjugate gradients short and their steps cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.linalg import get_lapack_funcs

from sklinear._losses import HessianProduct
from sklinear._objective import Objective

Arrays = list[np.ndarray]  # (m, k), one a block
Precondition = Callable[[np.ndarray], np.ndarray]

LARGEST_BLOCKS = 2**24  # numbers in the inverse blocks of all classes
LARGEST_BLOCK, LARGEST_SPARSE_BLOCK = 1024, 512  # rows of one
FEWEST_ROWS = 2048  # behind a block
ROWS_A_BLOCK = 3  # rows behind a block, in multiples of its size
LARGE = 2**20  # numbers in X from which on rows are sampled
FLOOR = 1e-7  # added to a block, relative to its mean curvature: rounding


class Hessian(NamedTuple):
    """Products with the Hessian: an objective and what to do with its scores."""

    objective: Objective
    products: list[HessianProduct]  # one a block

    def __call__(self, params: np.ndarray, pushed: Arrays) -> np.ndarray:
        """The product with params whose scores are given."""
        objective = self.objective
        pulled = objective.pull(
            [h(s) for h, s in zip(self.products, pushed, strict=True)]
        )
        return objective.gradient(objective.split(params)[0], *pulled)


def diagonals(objective: Objective, scores: Arrays) -> np.ndarray:
    """The Hessian's diagonal in the scores, weighted, (n, k)."""
    n, k = len(objective.data.y), objective.data.n_classes
    out = np.empty((n, k), objective.data.dtype, order="F")
    for block, s in zip(objective.data, scores, strict=True):
        part = objective.loss.rows(block.rows).diagonal(s, block.y)
        np.multiply(part, block.weights[:, None], out=out[block.rows])
    return out


def whole_hessian(objective: Objective, scores: Arrays) -> Hessian:
    """From all rows."""
    products = [
        objective.loss.rows(block.rows).hessian(s, block.y, block.weights)
        for block, s in zip(objective.data, scores, strict=True)
    ]
    return Hessian(objective, products)


def hessian(
    objective: Objective,
    scores: Arrays,
    diagonal: np.ndarray,
    share: float,
    rng: np.random.RandomState,
) -> Hessian:
    """From a share of the rows, or from all of them where that takes less."""
    data = objective.data
    values = data.X.nnz if data.sparse else data.X.shape[0] * data.X.shape[1]
    if values < LARGE:
        return whole_hessian(objective, scores)
    chance = chances(diagonal.sum(axis=1), share * len(data.y))
    copied = chance.mean() * values * data.dtype.itemsize
    if chance.mean() > 0.5 or copied > 1.1 * values:  # a byte for each value of X
        return whole_hessian(objective, scores)
    rows = np.flatnonzero(rng.random_sample(len(chance)) < chance)
    if not len(rows):
        return whole_hessian(objective, scores)
    sample = objective.replace(
        data=data.sample(rows, data.weights[rows] / chance[rows]),
        loss=objective.loss.rows(rows),
    )
    some = np.concatenate(scores)[rows]
    parts = [np.asfortranarray(some[block.rows]) for block in sample.data]
    return whole_hessian(sample, parts)


def chances(importance: np.ndarray, count: float) -> np.ndarray:
    """Probabilities in proportion to the importance, about ``count`` rows in all."""
    some = np.count_nonzero(importance)
    if some <= count:
        return (importance > 0).astype(np.float64)
    chance = importance * (count / importance.sum(dtype=np.float64))
    for _ in range(5):  # what certain rows cannot take goes to the others
        certain = chance >= 1
        left = count - np.count_nonzero(certain)
        rest = float(chance[~certain].sum())
        if not certain.any() or rest <= 0 or left <= rest * 1.01:
            break
        chance[~certain] *= left / rest
    return np.minimum(chance, 1)


class Preconditioner:
    """The inverse of the Hessian's diagonal blocks, one a class; kept while it pays.

    It is built anew when the steps taken with it have cost as much as building it.
    """

    def __init__(self, rng: np.random.RandomState):
        self.rng = rng
        self.stale = True
        self._apply: Precondition | None = None
        self._cost = self._work = 0.0
        self.last = 0.0  # operations of the last step's conjugate gradients

    def __call__(
        self, objective: Objective, diagonal: np.ndarray, ridge: float
    ) -> Precondition:
        """The one at hand, or a new one."""
        self.last = 0.0
        if self._apply is None or self.stale or self._work >= self._cost:
            self._apply, self._cost = inverse_of_blocks(
                objective, diagonal, ridge, self.rng
            )
            self._work, self.stale = 0.0, False
        return self._apply

    def adopt(self, inverse: np.ndarray) -> None:
        """Blocks (k, d1, d1) that were inverted elsewhere."""
        self._apply, self._cost = _blockwise(inverse), _cost(inverse)
        self._work, self.stale = 0.0, False

    def worked(self, objective: Objective) -> None:
        """One product with the Hessian of some rows was taken with it."""
        d1, k = objective.shape
        work = k * d1 * (4.0 * len(objective.data.y) + 2.0 * d1)
        self._work += work
        self.last += work


def inverse_of_blocks(
    objective: Objective,
    diagonal: np.ndarray,
    ridge: float,
    rng: np.random.RandomState,
) -> tuple[Precondition, float]:
    """The inverse of the Hessian's diagonal blocks, one a class, and its cost.

    Where they are too large, of its diagonal. Scores only matter up to a constant, so
    that the classes' steps are made to add up to 0.
    """
    d1, k = objective.shape
    if (objective.data.sparse and d1 > LARGEST_SPARSE_BLOCK) or d1 > LARGEST_BLOCK:
        return _scaling(objective, diagonal, ridge), 0.0
    if k * d1 * d1 > LARGEST_BLOCKS:
        diagonal = np.broadcast_to(diagonal.mean(axis=1, keepdims=True), diagonal.shape)
    columns = diagonal.T
    alike = float(np.ptp(diagonal, axis=1).max()) <= 1e-6 * float(diagonal.max())
    if alike:
        columns = columns[:1]
    inverse = np.empty((len(columns), d1, d1), objective.data.dtype)
    for j, column in enumerate(columns):
        inverse[j] = _inverse_block(objective, column, ridge, rng)
    return _blockwise(inverse), _cost(inverse)


def _cost(inverse: np.ndarray) -> float:
    """Operations that inverse blocks (k, d1, d1) take to build, or nearly so."""
    return len(inverse) * 2.0 * (ROWS_A_BLOCK + 1) * inverse.shape[1] ** 3


def _blockwise(inverse: np.ndarray) -> Precondition:
    """The product with inverse blocks (k, d1, d1), one a class or one for all."""

    def apply(r: np.ndarray) -> np.ndarray:
        columns = r.T.astype(inverse.dtype)[:, :, None]
        z = (inverse @ columns)[:, :, 0].T.astype(np.float64)
        return z - z.mean(axis=1)[:, None]

    return apply


def _inverse_block(
    objective: Objective,
    importance: np.ndarray,
    ridge: float,
    rng: np.random.RandomState,
) -> np.ndarray:
    """(d1, d1), from the second derivatives (n,) in one class's score."""
    d1, d = objective.shape[0], objective.data.X.shape[1]
    chance = chances(importance, max(ROWS_A_BLOCK * d1, FEWEST_ROWS))
    rows = np.flatnonzero(rng.random_sample(len(chance)) < chance)
    H = np.zeros((d1, d1))
    if len(rows):
        weights = importance[rows] / chance[rows]
        for block in objective.data.sample(rows, weights):
            Z = objective.features(block)
            Z *= np.sqrt(block.weights)[:, None].astype(Z.dtype)
            H += Z.T @ Z
    H[:d, :d] += 2 * objective.alpha * objective.variables.gram
    return inverse_of(H, ridge, objective.data.dtype)


def inverse_of(H: np.ndarray, ridge: float, dtype: np.dtype) -> np.ndarray:
    """The inverse, in some precision, of a symmetric H that is overwritten."""
    on_diagonal = np.einsum("ii->i", H)
    on_diagonal += ridge + FLOOR * on_diagonal.mean()
    potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=dtype)
    while True:
        factor, failed = potrf(H.astype(dtype), lower=True, overwrite_a=True)
        if not failed:
            break
        on_diagonal *= 1 + 1e-4  # rounding made it indefinite
    inverse, _ = potri(factor, lower=True, overwrite_c=True)
    lower = np.tril(inverse)
    return lower + np.tril(lower, -1).T


def _scaling(objective: Objective, diagonal: np.ndarray, ridge: float) -> Precondition:
    """The inverse of the Hessian's own diagonal."""
    data, factor, mean = (
        objective.data,
        objective.variables.factor,
        objective.variables.mean,
    )
    sums = np.zeros((data.X.shape[1], data.n_classes))
    for block in data:
        X = block.X
        squares = X.multiply(X).T if scipy.sparse.issparse(X) else np.square(X).T
        sums += squares @ diagonal[block.rows]
    total = diagonal.sum(axis=0, dtype=np.float64)
    # E (x - mean)^2 with the mean of other weights: what is left of it is small
    H = np.maximum(sums, 0) + total * mean[:, None] ** 2 + 2 * objective.alpha
    if factor.ndim == 2:
        return np.copy
    H *= factor[:, None] ** 2
    if objective.fit_intercept:
        H = np.vstack([H, total])
    H += ridge + FLOOR * H.mean()

    def apply(r: np.ndarray) -> np.ndarray:
        z = r / H
        return z - z.mean(axis=1)[:, None]

    return apply
