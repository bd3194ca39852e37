"""The Hessian at a point: products with it.

Few rows make up most of a Hessian: those near a boundary. Products visit a sample of
the rows, each drawn with a probability in proportion to its curvature and weighted by
the inverse (importance sampling; Xu et al. 2016, "Sub-sampled Newton methods with
non-uniform sampling").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklinear._data import Block
from sklinear._losses import HessianProduct
from sklinear._objective import Objective, Point

Arrays = list[np.ndarray]  # (m, k), one a block

LARGE = 2**20  # numbers in X from which on rows are sampled
OFF_CENTRE = 100.0  # of the mean, in units of the spread, up to which float32 will do
LARGEST_LOG = 20.0  # of the spread itself
COPIED = 0.7  # bytes for each value of X, in the rows behind a product


class Hessian(NamedTuple):
    """Products with the Hessian: an objective and what to do with its scores."""

    objective: Objective
    products: list[HessianProduct]  # one a block

    def __call__(self, params: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """The product with params, and their scores."""
        return self.objective.bend(params, self.products)


class StreamedHessian(NamedTuple):
    """Products with the Hessian at a point, of rows of which nothing is kept."""

    objective: Objective
    at: Point

    def __call__(self, params: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """The product with params, and no scores."""
        return self.objective.curve(self.at, params), []


def diagonals(objective: Objective, scores: Arrays) -> np.ndarray:
    """The Hessian's diagonal in the scores, weighted, (n, k)."""
    n, k = len(objective.data.y), objective.data.n_classes
    out = np.empty((n, k), objective.data.dtype, order="F")

    def fill(block: Block, s: np.ndarray) -> None:
        part = objective.loss.rows(block.rows).diagonal(s, block.y)
        np.multiply(part, block.weights[:, None], out=out[block.rows])

    for _ in objective.data.each(fill, scores):
        pass
    return out


def whole_hessian(objective: Objective, scores: Arrays) -> Hessian:
    """From all rows."""

    def product(block: Block, s: np.ndarray) -> HessianProduct:
        return objective.loss.rows(block.rows).hessian(s, block.y, block.weights)

    return Hessian(objective, list(objective.data.each(product, scores)))


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
    single = data.dtype == np.float32 or is_moderate(objective)
    importance, n = diagonal.sum(axis=1), len(data.y)
    chance, most = chances(importance, share * n), COPIED / (4 if single else 8)
    if chance.mean() > min(0.5, most):
        if share > 0.5:
            return whole_hessian(objective, scores)
        chance = chances(importance, most * n)
    rows = np.flatnonzero(rng.random_sample(len(chance)) < chance)
    if not len(rows):
        return whole_hessian(objective, scores)
    return whole_hessian(*sampled(objective, scores, rows, chance, single))


def sampled(
    objective: Objective,
    scores: Arrays,
    rows: np.ndarray,
    chance: np.ndarray,
    single: bool = False,
) -> tuple[Objective, Arrays]:
    """The objective of some rows, drawn with chances (n,), and their scores."""
    some = np.concatenate(scores)[rows]
    weights = objective.data.weights[rows] / chance[rows]
    few = objective.data.sample(rows, weights, single)
    some = some.astype(few.dtype, copy=False)
    sample = objective.replace(data=few, loss=objective.loss.rows(rows))
    return sample, [np.asfortranarray(some[block.rows]) for block in few]


def is_moderate(objective: Objective) -> bool:
    """Whether the rows are so near to 0, and of such a size, that float32 will do for a
    rough product."""
    mean, factor = objective.variables.mean, objective.variables.factor
    if factor.ndim == 2 or objective.data.sparse or not factor.any():
        return False
    factors = np.abs(np.log(factor[factor > 0]))
    near = float(np.abs(mean * factor).max()) <= OFF_CENTRE
    return near and float(factors.max()) <= LARGEST_LOG


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
