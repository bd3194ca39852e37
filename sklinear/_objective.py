"""The weighted mean loss + alpha ||W||^2 of one params matrix: the room that knows X.

The data term is a sum over row blocks, and every product with X goes through one of two
half passes: ``push`` takes params to scores, ``pull`` a gradient in the scores back to
one in the params. ``evaluate`` does both on one block before it reads the next, and so
do the visits at the end, which keep nothing of a row: the same function sums up the
rows of one array, of a file or of one machine among many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from sklinear._data import Block, Data
from sklinear._losses import HessianProduct, Loss
from sklinear._variables import Variables


class Point(NamedTuple):
    """A loss and the params at which it is taken, for X as the user has it."""

    loss: Loss
    W: np.ndarray  # (d, k)
    b: np.ndarray  # (k,)


class Evaluation(NamedTuple):
    """What one visit to the data tells about one point."""

    value: float  # of the loss that is minimised, smoothed or not, plus penalty
    gradient: np.ndarray  # its derivative in the params
    primal: float  # value of the loss itself plus penalty
    coef: np.ndarray  # W (d, k)
    pulled: np.ndarray  # X' U, features centred (d, k); U (n, k) is the score gradient
    slack: np.ndarray  # the gradient in W, X' U + 2 alpha W (d, k)
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
        self.data = data
        self.loss = loss
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.variables = variables
        self._shifted = fit_intercept and bool(variables.mean.any())

    def replace(self, **changes: Any) -> Objective:
        """A copy with some parts replaced."""
        parts = {name: part for name, part in vars(self).items() if name[0] != "_"}
        return Objective(**{**parts, **changes})

    @property
    def shape(self) -> tuple[int, int]:
        """Of params."""
        return self.data.shape[1] + self.fit_intercept, self.data.n_classes

    def split(self, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W (d, k) and the intercept b (k,) of the user's uncentred features."""
        d = self.data.shape[1]
        W = self.variables.coef(params[:d])
        if not self.fit_intercept:
            return W, np.zeros(W.shape[1])
        return W, params[d] - self.variables.mean @ W

    def join(self, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The params of a W and b: the inverse of ``split``."""
        V = self.variables.inverse(W)
        if not self.fit_intercept:
            return V.copy() if V is W else V
        return np.vstack([V, b + self.variables.mean @ W])

    def push(self, params: np.ndarray) -> list[np.ndarray]:
        """Scores of each block, (m, k), contiguous columns."""
        W, b = _working(self.data, *self.split(params))
        return list(self.data.each(partial(_pushed, W, b)))

    def pull(self, U: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Centred X' U (d, k) and 1' U (k,) of score gradients."""
        return self._added(self.data.each(_pulled, U))

    def bend(
        self, params: np.ndarray, products: list[HessianProduct]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The Hessian's product with params, from those of each block, and the scores
        of params."""
        W, b = self.split(params)
        working = partial(_bent, *_working(self.data, W, b))
        scores = []

        def sums() -> Iterator[Any]:
            for own, *part in self.data.each(working, products):
                scores.append(own)
                yield part

        return self.gradient(W, *self._added(sums())), scores

    def _added(self, parts: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Centred X' U (d, k) and 1' U (k,) from those of each block."""
        pulled, residual = _summed(parts, self.data.n_classes)
        return self._centred(pulled, residual), residual

    def evaluate(self, params: np.ndarray, conjugate: bool = False) -> Evaluation:
        """Value and gradient; each block of X is read once."""
        at = self.at(params)
        value, primal, dual, pulled, residual = self.data.total(evaluate, at, conjugate)
        pulled = self._centred(pulled, residual)
        return self.assemble(at.W, value, primal, dual, pulled, residual)

    def at(self, params: np.ndarray) -> Point:
        """The loss at these params, for X as it is."""
        return Point(self.loss, *self.split(params))

    def curve(self, at: Point, params: np.ndarray) -> np.ndarray:
        """Product of the Hessian at a point with params; each block is read once."""
        W, b = self.split(params)
        pulled, residual = self.data.total(curve, at, (W, b))
        return self.gradient(W, self._centred(pulled, residual), residual)

    def rows(
        self, block: Block, scores: np.ndarray
    ) -> tuple[float, float, np.ndarray, float]:
        """Value, primal value, U and conjugate of one block, from its scores."""
        return weigh(self.loss.rows(block.rows), block, scores, conjugate=True)

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
        slack = 2 * self.alpha * W
        slack += pulled
        return Evaluation(
            value + penalty,
            self._in_params(slack, residual),
            primal + penalty,
            W,
            pulled,
            slack,
            residual,
            conjugate,
        )

    def gradient(
        self, W: np.ndarray, pulled: np.ndarray, residual: np.ndarray
    ) -> np.ndarray:
        """Derivative in the params, from W and what was pulled back to it."""
        return self._in_params(pulled + 2 * self.alpha * W, residual)

    def _in_params(self, slack: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """A gradient in W and the intercept as one in the params."""
        gradient = self.variables.transpose(slack)
        if not self.fit_intercept:
            return gradient
        return np.concatenate([gradient, residual[None]])

    def features(self, block: Block) -> np.ndarray:
        """(X - 1 mean') T of a block and the intercept's ones: d(scores)/d(params)."""
        return features(block.X, self.variables, self.fit_intercept)

    def _centred(self, pulled: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """X' U as (X - 1 mean')' U."""
        if self._shifted:
            pulled -= self.variables.mean[:, None] * residual
        return pulled


def _pushed(W: np.ndarray, b: np.ndarray, block: Block) -> np.ndarray:
    """A block's scores."""
    return relative_scores(block.X, W, b)


def _pulled(block: Block, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X' U (d, k) and 1' U (k,) of a block."""
    return pulled_back(block.X, U), U.sum(axis=0, dtype=np.float64)


def _bent(
    W: np.ndarray, b: np.ndarray, block: Block, product: HessianProduct
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A block's scores of a direction, and X' H and 1' H of their product with H."""
    scores = relative_scores(block.X, W, b)
    return scores, *_pulled(block, product(scores))


def scores_of(X: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """X W + b (m, k) with contiguous columns, which reductions over classes like."""
    sparse = scipy.sparse.issparse(X)
    scores = np.asfortranarray(X @ W) if sparse else (W.T @ X.T).T
    scores += b
    return scores


def relative_scores(X: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same, less what is common to a row's classes, which no loss sees.

    Of two classes one column then says all, and one product is taken of two.
    """
    if W.shape[1] != 2:
        return scores_of(X, W, b)
    scores = np.zeros((2, X.shape[0]), W.dtype)
    scores[1] = X @ (W[:, 1] - W[:, 0]) + (b[1] - b[0])
    return scores.T


def inner(U: np.ndarray, scores: np.ndarray) -> float:
    """<U, scores> of two arrays (n, k) with contiguous columns.

    Their transposes are read as they lie; ``vdot`` copies what has other rows, which
    takes thirty times as long.
    """
    return float(np.vdot(U.T, scores.T))


def pulled_back(X: Any, U: np.ndarray) -> np.ndarray:
    """X' U (d, k) of score gradients, each row of which adds up to 0."""
    if U.shape[1] != 2:
        # U' X reads wide rows a third faster than X' U does
        return X.T @ U if scipy.sparse.issparse(X) else (U.T @ X).T
    pulled = np.empty((X.shape[1], 2), U.dtype)
    pulled[:, 1] = X.T @ U[:, 1]
    np.negative(pulled[:, 1], out=pulled[:, 0])
    return pulled


def features(X: Any, variables: Variables, fit_intercept: bool) -> np.ndarray:
    """(X - 1 mean') T of some rows and the intercept's ones: d(scores)/d(params)."""
    n, d = X.shape
    Z = np.ones((n, d + fit_intercept), X.dtype)
    variables.apply(X, Z[:, :d])
    return Z


def weigh(
    loss: Loss, block: Block, scores: np.ndarray, conjugate: bool
) -> tuple[float, float, np.ndarray, float]:
    """Value, primal value, U and conjugate of one block, from its scores."""
    values, U, exact = loss.both(scores, block.y)
    value = primal = float(values @ block.weights)
    if exact is not values:
        primal = float(exact @ block.weights)
    dual = np.nan
    if conjugate:
        dual = float(loss.exact.conjugate(U, block.y) @ block.weights)
    U *= block.weights[:, None]
    return value, primal, U, dual


# Visits: sums over the rows of one part of the data, see Data.total -------------------


def visits(
    data: Data, at: Point, *others: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[Block, Loss, list[np.ndarray]]]:
    """Each block, the loss of its rows, and its scores at a point and at others.

    They come of one product, with the points in the loss's past beside them.
    """
    scored = _scorer(data, at, *others)
    for block in data:
        yield block, *scored(block)


def _scorer(
    data: Data, at: Point, *others: tuple[np.ndarray, np.ndarray]
) -> Callable[[Block], tuple[Loss, list[np.ndarray]]]:
    """What ``visits`` tells of one block."""
    k, past = data.n_classes, at.loss.past
    pairs = [*((W, b) for W, b, _ in past), (at.W, at.b), *others]
    W, b = pairs[0]
    if len(pairs) > 1:
        W, b = np.hstack([W for W, _ in pairs]), np.concatenate([b for _, b in pairs])
    W, b = _working(data, W, b)
    product = relative_scores if len(pairs) == 1 else scores_of

    def scored(block: Block) -> tuple[Loss, list[np.ndarray]]:
        scores, loss = product(block.X, W, b), at.loss.rows(block.rows)
        if len(pairs) == 1:
            return loss, [scores]
        each = [scores[:, j : j + k] for j in range(0, scores.shape[1], k)]
        return loss.recalled(each[: len(past)], block.y), each[len(past) :]

    return scored


def evaluate(
    data: Data, at: Point, conjugate: bool
) -> tuple[float, float, float, np.ndarray, np.ndarray]:
    """Value, primal value, conjugate, X' U (d, k) and 1' U (k,)."""
    scored = _scorer(data, at)

    def one(block: Block) -> tuple[float, float, float, np.ndarray, np.ndarray]:
        loss, (scores,) = scored(block)
        v, p, u, c = weigh(loss, block, scores, conjugate)
        return v, p, c, *_pulled(block, u)

    value = primal = dual = 0.0
    pulled, residual = None, np.zeros(data.n_classes)
    for v, p, c, part, sums in data.each(one):
        value, primal, dual = value + v, primal + p, dual + c
        pulled = _add(pulled, part)
        residual += sums
    assert pulled is not None
    return value, primal, dual, pulled, residual


def curve(
    data: Data, at: Point, direction: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """X' H (d, k) and 1' H (k,), H (n, k) the Hessian's product with the scores of a
    direction (W, b)."""
    parts = (
        _pulled(block, loss.hessian(scores, block.y, block.weights)(change))
        for block, loss, (scores, change) in visits(data, at, direction)
    )
    return _summed(parts, data.n_classes)


def bend_intercept(data: Data, at: Point) -> np.ndarray:
    """The loss's Hessian in the intercept (k, k)."""
    scored, k = _scorer(data, at), data.n_classes

    def one(block: Block) -> np.ndarray:
        loss, (scores,) = scored(block)
        return loss.total_hessian(scores, block.y, block.weights)

    return sum(data.each(one), np.zeros((k, k)))


def probe(
    data: Data,
    at: Point,
    direction: tuple[np.ndarray, np.ndarray],
    lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes at points at several distances in a direction (W, b)."""
    values, slopes = np.zeros(len(lengths)), np.zeros(len(lengths))
    for block, loss, (scores, change) in visits(data, at, direction):
        for j, t in enumerate(lengths):
            v, _, u, _ = weigh(loss, block, scores + t * change, False)
            values[j] += v
            slopes[j] += inner(u, change)
    return values, slopes


def _working(data: Data, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W and b in the precision of the products with X."""
    return W.astype(data.dtype, copy=False), b.astype(data.dtype, copy=False)


def _summed(parts: Iterable[Any], k: int) -> tuple[np.ndarray, np.ndarray]:
    """X' U (d, k) and 1' U (k,) from those of each block."""
    pulled, residual = None, np.zeros(k)
    for part, sums in parts:
        pulled = _add(pulled, part)
        residual += sums
    assert pulled is not None
    return pulled, residual


def _add(total: np.ndarray | None, part: np.ndarray) -> np.ndarray:
    """total + part in float64, in the memory of one of them where it can be."""
    if total is None:
        return part.astype(np.float64, copy=False)
    total += part
    return total
