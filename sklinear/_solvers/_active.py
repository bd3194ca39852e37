"""Newton steps of the hinges in the space of their active margins, where they are few.

The Hessian is 2 alpha I and a rank one for each margin with curvature, whose number is
often far below that of the params: what is solved is the dual system (Woodbury 1950) of
a number a margin, bordered by the intercept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.linalg

from sklinear._losses import Margin
from sklinear._objective import Objective
from sklinear._solvers._curvature import Arrays
from sklinear._solvers._steps import State

LARGEST = 2000  # active margins: their system takes 32 MB
SHARE = 0.7  # of the params: with more margins the system is nearly singular
GATHER = 40  # operations that it takes to write a number of the system


def count_active(objective: Objective, scores: Arrays) -> int:
    """How many margins have curvature."""
    assert isinstance(objective.loss, Margin)
    return sum(int(np.count_nonzero(slope)) for slope in _slopes(objective, scores))


def active_cost(objective: Objective, count: int) -> float:
    """Operations of a step in the space of so many margins, inf if it is inexact."""
    d1, k = objective.shape
    if objective.alpha == 0 or not 0 < count <= min(LARGEST, SHARE * d1 * (k - 1)):
        return np.inf
    return count**3 / 3 + count**2 * (GATHER + 2 * d1)


def active_step(objective: Objective, state: State, ridge: float) -> np.ndarray | None:
    """Newton's step, or None if rounding forbids it.

    ``ridge`` damps the intercept. O(a^3 + a^2 (d + k)) time for a margins.
    """
    k, data = objective.data.n_classes, objective.data
    slopes = np.concatenate(list(_slopes(objective, state.scores)))
    i, j = np.nonzero(slopes)
    slope = slopes[i, j] * data.weights[i]
    rows, i = np.unique(i, return_inverse=True)
    y, count = data.y[rows], len(i)
    pairs = np.zeros((count, k))  # e_j - e_y of each margin
    pairs[np.arange(count), j] = 1
    pairs[np.arange(count), y[i]] = -1
    gradient, penalty = state.at.slack, 2 * objective.alpha
    X, mean = data.take(rows), objective.variables.mean
    if data.sparse:
        shift = X @ mean
        products = (X @ X.T).toarray() - shift - shift[:, None] + mean @ mean
        tilt = X @ gradient - mean @ gradient
    else:
        X = X - mean.astype(data.dtype)
        products, tilt = (X @ X.T).astype(np.float64), X @ gradient
    system = products[np.ix_(i, i)]
    system *= pairs @ pairs.T
    system /= penalty
    system.flat[:: count + 1] += 1 / slope
    target = -(tilt[i, j] - tilt[i, y[i]]) / penalty
    try:  # its transpose lies in memory as LAPACK wants it
        factor = scipy.linalg.cho_factor(
            system.T, lower=True, overwrite_a=True, check_finite=False
        )
    except np.linalg.LinAlgError:  # features of too different scales
        return None
    intercept = np.zeros(k)
    if objective.fit_intercept:
        solved = scipy.linalg.cho_solve(factor, np.column_stack([target, pairs]))
        border = pairs.T @ solved
        S = border[:, 1:] + 1 / k  # a constant added to all scores is free
        S.flat[:: k + 1] += ridge
        intercept = np.linalg.solve(S, -state.at.residual - border[:, 0])
        intercept -= intercept.mean()
        multipliers = solved[:, 0] + solved[:, 1:] @ intercept
    else:
        multipliers = scipy.linalg.cho_solve(factor, target)
    T = np.zeros((len(rows), k))
    np.add.at(T, (i, j), multipliers)
    T[np.arange(len(rows)), y] -= T.sum(axis=1)
    pulled = X.T @ T
    if data.sparse:
        pulled -= np.outer(mean, T.sum(axis=0))
    W = -(gradient + pulled) / penalty
    V = objective.variables.inverse(W - W.mean(axis=1)[:, None])
    return np.vstack([V, intercept]) if objective.fit_intercept else V


def _slopes(objective: Objective, scores: Arrays) -> Iterator[np.ndarray]:
    """Second derivative in each margin of each block, (m, k); 0 where no weight is."""
    for block, s in zip(objective.data, scores, strict=True):
        loss = objective.loss.rows(block.rows)
        assert isinstance(loss, Margin)
        slope = loss.slope(s, block.y)
        slope[block.weights == 0] = 0
        yield slope
