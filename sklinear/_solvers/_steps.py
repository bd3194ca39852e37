"""One step of Newton's method: its direction, dense or by conjugate gradients, and
its length."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from sklinear._data import Block, Data
from sklinear._losses import HessianProduct
from sklinear._objective import (
    Evaluation,
    Objective,
    Point,
    features,
    inner,
    visits,
)
from sklinear._solvers._curvature import (
    Arrays,
    Hessian,
    StreamedHessian,
    chances,
    diagonals,
    sampled,
)
from sklinear._solvers._preconditioner import Precondition, Preconditioner
from sklinear._solvers._solution import Monitor
from sklinear._variables import Variables

ROWS_A_FEATURE = 8  # behind the Hessian that preconditions, at least
SAMPLED = 5e7  # operations that it takes, where that is enough
CG_STEPS = 250  # of one Newton step
CG_PART = 0.1  # of an iteration, each after the first, where rows are in memory


class Iterate(NamedTuple):
    """A point with all that one visit to the data tells of it."""

    params: np.ndarray
    scores: Arrays  # none of rows of which nothing is kept
    U: Arrays | Point  # weighted score gradients, or where they can be had again
    at: Evaluation
    dual: float


class Sums(NamedTuple):
    """What a visit to the scores sums up, and the weighted score gradients."""

    value: float
    primal: float
    conjugate: float
    U: Arrays


def visit_rows(objective: Objective, scores: Arrays) -> Sums:
    """The sums at scores, block by block."""
    value = primal = conjugate = 0.0
    U = []
    for v, p, u, c in objective.data.each(objective.rows, scores):
        value, primal, conjugate = value + v, primal + p, conjugate + c
        U.append(u)
    return Sums(value, primal, conjugate, U)


def cg_step(
    H: Hessian | StreamedHessian,
    gradient: np.ndarray,
    precondition: Precondition,
    ridge: float,
    monitor: Monitor,
    preconditioner: Preconditioner,
    enough: float | None,
    settled: float,
    most: int | None = None,
) -> tuple[np.ndarray, Arrays, float]:
    """Truncated conjugate gradients (Steihaug 1983), at ``most`` so many, or CG_STEPS.

    The step, its change of the scores, and what is left of the residual. It ends where
    a part ``enough`` is left, by default superlinearly little.
    """
    r = -gradient
    z = precondition(r)
    step, p = np.zeros_like(r), z.copy()
    change: Arrays = []
    rz = start = float(np.vdot(r, z))
    if enough is None:
        enough = min(0.01, np.sqrt(max(start, 0.0)))
    data = H.objective.data
    part = data.shape[0] / monitor.n_rows * (1.0 if data.streamed else CG_PART)
    for before in range(most or CG_STEPS):
        Hp, pushed = H(p)
        Hp += ridge * p
        curvature = float(np.vdot(p, Hp))
        if not (curvature > 0 and start > 0):  # rounding is all that is left
            change = change or [np.zeros_like(s) for s in pushed]
            break
        a = rz / curvature
        step += a * p
        if not change:
            change = [a * s for s in pushed]
        else:
            for c, s in zip(change, pushed, strict=True):
                s *= a
                c += s
        r -= a * Hp
        if before:  # the first is the Newton step's own
            monitor.count(part)
        z = precondition(r)
        rz, last = float(np.vdot(r, z)), rz
        preconditioner.worked(H.objective)
        if rz <= enough * start or monitor.spent:
            break
        if rz <= 0.1 * start and H.objective.variables.slack(r) <= settled:
            break
        p = z + (rz / last) * p
    else:
        preconditioner.failed |= most is None
    return step, change, rz / start if start > 0 else 0.0


def written_out(objective: Objective, scores: Arrays) -> np.ndarray:
    """The pairs j < m of the loss's Hessian (k, d1, k, d1), for any loss."""
    d1, k = objective.shape
    H = np.zeros((k, d1, k, d1))
    for block, s in zip(objective.data, scores, strict=True):
        loss = objective.loss.rows(block.rows)
        product = loss.hessian(s, block.y, block.weights)
        _add_pairs(H, objective.features(block), s, product)
    return H


def streamed_dense_step(
    objective: Objective, at: Point, gradient: np.ndarray, ridge: float
) -> np.ndarray:
    """A dense step from one pass over rows of which nothing is kept."""
    d1, k = objective.shape
    H = np.zeros((k, d1, k, d1))
    first, second = np.triu_indices(k, 1)
    H[first, :, second] = objective.data.total(
        _streamed_out, at, objective.variables, objective.fit_intercept
    )
    return dense_step(objective, H, gradient, ridge)


def _streamed_out(
    data: Data, at: Point, variables: Variables, fit_intercept: bool
) -> np.ndarray:
    """The pairs j < m of the loss's Hessian, (k (k - 1) / 2, d1, d1)."""
    d1, k = data.shape[1] + fit_intercept, data.n_classes
    H = np.zeros((k, d1, k, d1))
    for block, loss, (scores,) in visits(data, at):
        product = loss.hessian(scores, block.y, block.weights)
        _add_pairs(H, features(block.X, variables, fit_intercept), scores, product)
    first, second = np.triu_indices(k, 1)
    return H[first, :, second]


def _add_pairs(
    H: np.ndarray, Z: np.ndarray, scores: np.ndarray, product: HessianProduct
) -> None:
    """One block's share of the pairs j < m of a Hessian (k, d1, k, d1)."""
    k = len(H)
    for j in range(k - 1):
        unit = np.zeros_like(scores)
        unit[:, j] = 1
        column = product(unit)  # (m, k): second derivatives in s_j and each s_l, <= 0
        if column[:, j + 1 :].all():
            bent = column.T[j + 1 :, :, None] * Z  # (classes, m, d1)
            H[j, :, j + 1 :] += np.tensordot(Z, bent, (0, 1))
            continue
        for m in range(j + 1, k):
            rows = np.flatnonzero(column[:, m])  # few on the hinges
            if len(rows):
                some = Z if len(rows) == len(Z) else Z[rows]
                H[j, :, m] += some.T @ (column[rows, m][:, None] * some)


def sampled_whole(
    objective: Objective, scores: Arrays, ridge: float, rng: np.random.RandomState
) -> tuple[Precondition, float]:
    """The inverse of the Hessian of some rows, drawn by their curvature, and its
    cost."""
    data, (d1, k) = objective.data, objective.shape
    importance = diagonals(objective, scores).sum(axis=1)
    count = max(ROWS_A_FEATURE * d1, len(data.y) / 32, SAMPLED / (d1 * k) ** 2)
    chance = chances(importance, count)
    rows = np.flatnonzero(rng.random_sample(len(chance)) < chance)
    H = written_out(*sampled(objective, scores, rows, chance))
    return factored(objective, H, ridge), len(rows) * float(d1 * k) ** 2


def dense_step(
    objective: Objective, H: np.ndarray, gradient: np.ndarray, ridge: float
) -> np.ndarray:
    """The step to where the gradient vanishes, from the pairs j < m of a Hessian."""
    return -factored(objective, H, ridge)(gradient)


def factored(objective: Objective, H: np.ndarray, ridge: float) -> Precondition:
    """Multiplication with the inverse of a Hessian, from its pairs j < m.

    Scores only matter up to a constant, so that a class's own block is less the sum of
    its pairs', and the steps add up to 0: with the last class's held at 0 and the mean
    taken off after, a penalty I is I - 1 1' / k, and one class less is solved for.
    """
    (d1, k), d = objective.shape, objective.data.shape[1]
    penalty = np.zeros((d1, d1))
    penalty[:d, :d] = 2 * objective.alpha * objective.variables.gram
    penalty.flat[:: d1 + 1] += ridge
    own = np.zeros((k - 1, d1, d1))
    for j in range(k - 1):
        pairs = H[j, :, j + 1 :]  # (d1, classes, d1)
        own[j] -= pairs.sum(axis=1)
        own[j + 1 :] -= pairs[:, :-1].swapaxes(0, 1)
        pairs[:, :-1] -= penalty[:, None] / k
        H[j, :, j] = own[j] + (1 - 1 / k) * penalty
    square = H[:-1, :, :-1].reshape((k - 1) * d1, -1)
    diagonal = np.einsum("ii->i", square)
    jitter = 1e-13 * diagonal.mean() or 1.0  # nothing bends without a penalty
    while True:
        diagonal += jitter
        # its transpose lies in memory as LAPACK wants it
        factor, failed = dpotrf(square.T, lower=True, clean=False)
        if not failed:
            break
        jitter *= 100
        if not np.isfinite(jitter):
            return np.zeros_like  # no step

    def apply(r: np.ndarray) -> np.ndarray:
        target = r[:, :-1] - r.sum(axis=1)[:, None] / k
        z = np.zeros((d1, k))
        solved = dpotrs(factor, target.T.ravel(), lower=True)[0]
        z[:, :-1] = solved.reshape(k - 1, d1).T
        return z - z.sum(axis=1)[:, None] / k

    return apply


class Trial(NamedTuple):
    """A step's length and what a visit to its end tells."""

    length: float
    scores: Arrays
    sums: Sums


def line_search(
    objective: Objective, state: Iterate, step: np.ndarray, change: Arrays
) -> Trial | None:
    """Where the slope along the step has almost vanished; None if nothing decreases."""
    alpha, at, U = objective.alpha, state.at, state.U
    assert not isinstance(U, Point)
    coef = objective.split(step)[0]
    bend = 2 * alpha * float(np.vdot(coef, coef))
    tilt = 2 * alpha * float(np.vdot(coef, at.coef))
    square = alpha * float(np.vdot(at.coef, at.coef))
    start = _inner(U, change) + tilt
    rounding = 500 * np.finfo(objective.data.dtype).eps
    if not start < 0:
        return None
    low, high, t = None, np.inf, 1.0
    low_slope, high_slope = start, np.inf
    for count in range(60):
        scores = [*objective.data.each(partial(_moved, t), state.scores, change)]
        trial = Trial(t, scores, visit_rows(objective, scores))
        value = trial.sums.value + square + t * tilt + t * t * bend / 2
        slope = _inner(trial.sums.U, change) + tilt + t * bend
        if not (value <= at.value * (1 + rounding) and slope <= 0.1 * -start):
            high, high_slope = t, max(slope, 1e-3 * -start)
        elif slope < 0.5 * start and high < np.inf:
            low, low_slope = trial, slope
        else:
            return trial
        secant = low_slope / (low_slope - high_slope)
        if count > 5:
            secant = 0.5  # the slope jumps where margins begin and end
        least = low.length if low else 0.0
        t = least + (high - least) * min(max(secant, 0.1), 0.9)
    return low


def _moved(
    t: float, block: Block, scores: np.ndarray, change: np.ndarray
) -> np.ndarray:
    """Scores at a step's length t."""
    return scores + t * change


def _inner(U: Arrays, change: Arrays) -> float:
    """<U, change> over all blocks."""
    return sum(inner(u, c) for u, c in zip(U, change, strict=True))
