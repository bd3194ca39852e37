"""Inverses of the diagonal blocks of the Hessian, one a class: what makes conjugate
gradients short.

The blocks need no more rows than a few times their size, drawn as those of a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from scipy.linalg import get_lapack_funcs
from scipy.linalg.blas import sspmv
from scipy.linalg.lapack import dtpttr, strttp

from sklinear._data import Data, large_array
from sklinear._losses import CrossEntropy
from sklinear._objective import Objective, Point, features, visits
from sklinear._solvers._curvature import chances, is_moderate
from sklinear._threads import ordered
from sklinear._variables import Variables

Precondition = Callable[[np.ndarray], np.ndarray]

LARGEST_BLOCKS = 2**24  # numbers in the inverse blocks of all classes
LARGEST_PRECISE = 2**20  # of these, up to which they are kept in float64
LARGEST_BLOCK, LARGEST_SPARSE_BLOCK = 1024, 512  # rows of one
LARGE_BLOCK = 256  # rows of one from which on several threads pay
SMALL_BLOCK = 64  # rows of one up to which all classes' come of the same rows of X
FEWEST_ROWS = 2048  # behind a block
ALIKE = 0.5  # of the largest second derivative, above which one block does for all
RIDGE = 1e-2  # damping of a step in units of the gradient's norm, at first and most
LEAST_RIDGE = 1e-8  # the same after whole steps: what bends little is in their way
USUAL = 10  # steps of conjugate gradients, where none were taken yet
ROWS_A_BLOCK = 3  # rows behind a block, in multiples of its size
FLOOR = 1e-7  # added to a block, relative to its mean curvature: rounding


class Preconditioner:
    """The inverse of the Hessian's diagonal blocks, one a class, or, of a dense one,
    of that of some rows; kept while it pays.

    It is built anew when the steps taken with it have cost as much as building it.
    """

    def __init__(self, rng: np.random.RandomState):
        self.rng = rng
        self.stale = True
        self.excerpt_helps = True  # where there is one of the rows
        self.unbent = np.inf  # width of a hinge from which on too many rows bend it
        self._apply: Precondition | None = None
        self._cost = self._work = 0.0
        self.last = 0.0  # operations of the last step's conjugate gradients
        self.failed = False  # whether some ended before the step was known
        self._damping, self.length = RIDGE, 1.0  # of the last step

    def __call__(self, build: Callable[[], tuple[Precondition, float]]) -> Precondition:
        """The one at hand, or a new one."""
        self.last = 0.0
        if self._apply is None or self.stale or self._work >= self._cost:
            self._apply = None  # two of them would be too much memory
            self._apply, self._cost = build()
            self._work, self.stale = 0.0, False
        return self._apply

    def ridge(self, gradient: np.ndarray) -> float:
        """Added to the Hessian for the next step; vanishes at the optimum."""
        return self._damping * min(1.0, float(np.linalg.norm(gradient)))

    def took(self, length: float) -> None:
        """A step was taken, or a part of it, after which the next is damped more."""
        self.length = length
        damping = self._damping / 10 if length == 1 else 10 * self._damping
        self._damping = min(max(damping, LEAST_RIDGE), RIDGE)

    def adopt(self, inverse: np.ndarray) -> None:
        """Blocks (k, d1, d1) that were inverted elsewhere."""
        self._apply, self._cost = _blockwise(inverse), _cost(*inverse.shape[:2])
        self._work, self.stale = 0.0, False

    def expected(self, objective: Objective) -> float:
        """Operations of a step's conjugate gradients: the last one's, if any."""
        return self.last or USUAL * product_cost(objective)

    def worked(self, objective: Objective) -> None:
        """One product with the Hessian of some rows was taken with it."""
        work = product_cost(objective)
        self._work += work
        self.last += work


def product_cost(objective: Objective) -> float:
    """Operations of a product with the Hessian and of one with the inverse blocks."""
    d1, k = objective.shape
    return k * d1 * (4.0 * objective.data.shape[0] + 2.0 * d1)


def inverse_of_blocks(
    objective: Objective,
    diagonal: np.ndarray,
    ridge: float,
    rng: np.random.RandomState,
) -> tuple[Precondition, float]:
    """The inverse of the Hessian's diagonal blocks, one a class, and its cost.

    Of their mean where they are too many; where they are too large, of its diagonal.
    """
    d1, k = objective.shape
    if _too_large(objective):
        return _scaling(objective, *_squares(objective.data, diagonal), ridge), 0.0
    many = k * d1 * d1 > LARGEST_BLOCKS
    columns = diagonal.mean(axis=1)[None] if many else diagonal.T
    if float(diagonal.min()) >= ALIKE * float(diagonal.max()):
        columns = columns[:1]
    softmax = isinstance(objective.loss, CrossEntropy)
    if softmax and d1 <= SMALL_BLOCK and len(columns) > 1:
        blocks = _blocks_of_some(objective, columns, rng)
        invert = partial(_inverse, objective, ridge)
        return _inverted(objective, len(blocks), map, invert, blocks)
    each = ordered if d1 >= LARGE_BLOCK else map
    drawn = (_drawn(objective, column, rng) for column in columns)
    single = len(columns) * d1 * d1 > LARGEST_PRECISE and is_moderate(objective)
    invert = partial(_sampled_inverse, objective, ridge, single)
    return _inverted(objective, len(columns), each, invert, columns, drawn)


def _too_large(objective: Objective) -> bool:
    """Whether blocks cost too much."""
    d1 = objective.shape[0]
    sparse = objective.data.sparse and d1 > LARGEST_SPARSE_BLOCK
    return sparse or d1 > LARGEST_BLOCK


def _inverted(
    objective: Objective,
    count: int,
    each: Callable[..., Iterable[Any]],
    invert: Callable[..., np.ndarray],
    *parts: Iterable[Any],
) -> tuple[Precondition, float]:
    """Multiplication with the blocks (d1, d1) that ``invert`` gives for the parts of
    each, and their cost. No more of them are held in float64 than are worked on."""
    d1 = objective.shape[0]
    large = count * d1 * d1 > LARGEST_PRECISE
    cost = _cost(count, d1)
    if not large:
        inverse = np.empty((count, d1, d1), objective.data.dtype)
        for place, block in zip(inverse, each(invert, *parts), strict=True):
            place[:] = block
        return _blockwise(inverse), cost
    packed = large_array((count, d1 * (d1 + 1) // 2), np.float32)

    def fill(place: np.ndarray, *part: Any) -> None:
        block = invert(*part)
        if block.dtype != place.dtype:  # rounding shall not make it indefinite
            block.flat[:: d1 + 1] += np.finfo(np.float32).eps * np.trace(block)
        place[:] = strttp(block.astype(np.float32, copy=False).T, uplo="L")[0]

    for _ in each(fill, packed, *parts):
        pass
    return _trianglewise(packed, d1), cost


def _cost(count: int, d1: int) -> float:
    """Operations that inverse blocks (count, d1, d1) take to build, or nearly so."""
    return count * 2.0 * (ROWS_A_BLOCK + 1) * d1**3


def _blockwise(inverse: np.ndarray) -> Precondition:
    """Multiplication with inverse blocks (k, d1, d1), one a class or one for all.

    Scores only matter up to a constant, so that the classes' steps are made to add up
    to 0.
    """

    def apply(r: np.ndarray) -> np.ndarray:
        columns = r.T.astype(inverse.dtype)[:, :, None]
        z = (inverse @ columns)[:, :, 0].T.astype(np.float64)
        return z - z.mean(axis=1)[:, None]

    return apply


def _trianglewise(packed: np.ndarray, d1: int) -> Precondition:
    """The same with the lower triangles of large symmetric blocks, in float32: half of
    the memory to hold, and to read."""

    def apply(r: np.ndarray) -> np.ndarray:
        columns = r.T.astype(np.float32)
        blocks = np.broadcast_to(packed, (len(columns), packed.shape[1]))
        pairs = zip(blocks, columns, strict=True)
        z = np.array([sspmv(d1, 1.0, block, c, lower=1) for block, c in pairs]).T
        return z - z.mean(axis=1, dtype=np.float64)[:, None]

    return apply


def _blocks_of_some(
    objective: Objective, columns: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """All classes' small blocks (k, d1, d1) of the softmax's Hessian, by the same rows,
    which nearly all add to each: to draw some for each class would take longer than
    what is done with them."""
    d1 = objective.shape[0]
    rows, chance = _drawn(objective, columns.sum(axis=0), rng)
    H = np.zeros((len(columns), d1, d1))
    for block in objective.data.sample(rows, 1 / chance):
        Z = objective.features(block)
        bent = np.empty_like(Z)
        weights = columns[:, rows[block.rows]] * block.weights
        for own, column in zip(H, weights, strict=True):
            np.multiply(Z, column[:, None], out=bent)
            own += Z.T @ bent
    return H


def _drawn(
    objective: Objective, importance: np.ndarray, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stand for a class's block, and their chances."""
    most = max(ROWS_A_BLOCK * objective.shape[0], FEWEST_ROWS)
    chance = chances(importance, most)
    rows = np.flatnonzero(rng.random_sample(len(chance)) < chance)
    return rows, chance[rows]


def _sampled_inverse(
    objective: Objective,
    ridge: float,
    single: bool,
    importance: np.ndarray,
    drawn: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """(d1, d1), from the second derivatives (n,) in one class's score, by rows that
    stand for its block."""
    (d1, _), (rows, chance) = objective.shape, drawn
    H = np.zeros((d1, d1))
    if len(rows):
        for block in objective.data.sample(rows, importance[rows] / chance, single):
            _add_products(H, objective.features(block), block.weights)
    return _inverse(objective, ridge, H, single)


def _add_products(H: np.ndarray, Z: np.ndarray, weights: np.ndarray) -> None:
    """H += Z' diag(weights) Z."""
    Z *= np.sqrt(weights)[:, None].astype(Z.dtype)
    H += Z.T @ Z


def _inverse(
    objective: Objective, ridge: float, H: np.ndarray, single: bool = False
) -> np.ndarray:
    """Of the loss's block H (d1, d1) with the penalty's added."""
    d = objective.data.shape[1]
    H[:d, :d] += 2 * objective.alpha * objective.variables.gram
    dtype = np.dtype(np.float32) if single else objective.data.dtype
    return inverse_of(H, ridge, dtype)


def inverse_of(H: np.ndarray, ridge: float, dtype: np.dtype) -> np.ndarray:
    """The inverse, in some precision, of a symmetric H that is overwritten."""
    on_diagonal = np.einsum("ii->i", H)
    # at rest, nothing bends without a penalty
    on_diagonal += (ridge + FLOOR * on_diagonal.mean()) or 1.0
    potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=dtype)
    if not np.abs(H).max() <= np.finfo(dtype).max:  # it has no inverse, and no end
        return np.zeros(H.shape, dtype)
    while True:
        # its transpose lies in memory as LAPACK wants it
        factor, failed = potrf(H.astype(dtype).T, lower=True, overwrite_a=True)
        if not failed:
            break
        on_diagonal *= 1 + 1e-4  # rounding made it indefinite
    half, _ = potri(factor, lower=True, overwrite_c=True)  # 0 above the diagonal
    inverse = half + half.T
    np.einsum("ii->i", inverse)[:] /= 2
    return inverse


def _squares(data: Data, diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the rows (d, k), and 1 (k,), weighted by the diagonal (n, k)."""
    sums = np.zeros((data.shape[1], data.n_classes))
    for block in data:
        _add_squares(sums, block.X, diagonal[block.rows])
    return sums, diagonal.sum(axis=0, dtype=np.float64)


def _add_squares(sums: np.ndarray, X: Any, diagonal: np.ndarray) -> None:
    """sums += (X * X)' diagonal."""
    squares = X.multiply(X).T if scipy.sparse.issparse(X) else np.square(X).T
    sums += squares @ diagonal


def _scaling(
    objective: Objective, sums: np.ndarray, total: np.ndarray, ridge: float
) -> Precondition:
    """The inverse of the Hessian's own diagonal."""
    factor, mean = objective.variables.factor, objective.variables.mean
    if factor.ndim == 2:
        return np.copy
    # E (x - mean)^2 with the mean of other weights: what is left of it is small
    H = np.maximum(sums, 0) + total * mean[:, None] ** 2 + 2 * objective.alpha
    H *= factor[:, None] ** 2
    if objective.fit_intercept:
        H = np.vstack([H, total])
    H += ridge + FLOOR * H.mean()

    def apply(r: np.ndarray) -> np.ndarray:
        z = r / H
        return z - z.mean(axis=1)[:, None]

    return apply


# Of rows of which nothing is kept -----------------------------------------------------


def streamed_inverse(
    objective: Objective, at: Point, ridge: float, rng: np.random.RandomState
) -> tuple[Precondition, float]:
    """The inverse of the Hessian's diagonal blocks at a point, in one pass.

    One for all classes, their mean, where one for each were too many numbers to send
    around (of large ones triangles in float32), or for the rows that each task has. Of
    its diagonal where even that is too large.
    """
    (d1, k), data = objective.shape, objective.data
    if _too_large(objective):
        return _scaling(objective, *data.total(_streamed_squares, at), ridge), 0.0
    share = max(ROWS_A_BLOCK * d1, FEWEST_ROWS) / data.shape[0]
    small = k * d1 * d1 <= LARGEST_PRECISE
    each = small or data.shape[0] >= data.n_tasks * d1
    each &= k * d1 * d1 <= LARGEST_BLOCKS
    triangles = data.total(
        _streamed_blocks,
        at,
        objective.variables,
        objective.fit_intercept,
        share,
        each,
        rng.randint(2**31 - 1),
    )

    def invert(triangle: np.ndarray) -> np.ndarray:
        half = dtpttr(d1, triangle.astype(np.float64), uplo="L")[0]
        return _inverse(objective, ridge, np.tril(half) + np.tril(half, -1).T)

    return _inverted(objective, len(triangles), map, invert, triangles)


def _streamed_blocks(
    data: Data,
    at: Point,
    variables: Variables,
    fit_intercept: bool,
    share: float,
    each: bool,
    seed: int,
) -> np.ndarray:
    """Blocks of a share of the rows, drawn by their curvature: the lower triangles of
    (k or 1, d1, d1)."""
    rng = np.random.RandomState(seed)
    d1, count = data.shape[1] + fit_intercept, data.n_classes if each else 1
    dtype = np.float64 if count * d1 * d1 <= LARGEST_PRECISE else np.float32
    blocks = np.zeros((count, d1, d1), dtype)
    for block, loss, (scores,) in visits(data, at):
        diagonal = loss.diagonal(scores, block.y) * block.weights[:, None]
        columns = diagonal.T if each else diagonal.mean(axis=1)[None]
        for H, column in zip(blocks, columns, strict=True):
            chance = chances(column, share * len(column))
            rows = np.flatnonzero(rng.random_sample(len(chance)) < chance)
            if len(rows):
                Z = features(block.X[rows], variables, fit_intercept)
                _add_products(H, Z, column[rows] / chance[rows])
    (trttp,) = get_lapack_funcs(("trttp",), dtype=dtype)
    return np.array([trttp(H.T, uplo="L")[0] for H in blocks])


def _streamed_squares(data: Data, at: Point) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the rows (d, k), and 1 (k,), weighted by their second derivatives."""
    sums = np.zeros((data.shape[1], data.n_classes))
    total = np.zeros(data.n_classes)
    for block, loss, (scores,) in visits(data, at):
        diagonal = loss.diagonal(scores, block.y) * block.weights[:, None]
        _add_squares(sums, block.X, diagonal)
        total += diagonal.sum(axis=0, dtype=np.float64)
    return sums, total
