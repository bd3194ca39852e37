"""One step of Newton's method: its direction, dense or by conjugate gradients, and
its length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from sklinear._losses import HessianProduct
from sklinear._objective import Evaluation, Objective
from sklinear._solvers._curvature import (
    Arrays,
    Hessian,
    Precondition,
    Preconditioner,
)
from sklinear._solvers._solution import Monitor

CG_STEPS = 250  # of one Newton step


class State(NamedTuple):
    """A point with all that one visit to the data tells of it."""

    params: np.ndarray
    scores: Arrays
    U: Arrays  # weighted score gradients
    at: Evaluation
    dual: float


def visit_rows(
    objective: Objective, scores: Arrays
) -> tuple[float, float, float, Arrays]:
    """Sums over the blocks of value, primal value and conjugate, and U."""
    value = primal = conjugate = 0.0
    U = []
    for block, s in zip(objective.data, scores, strict=True):
        v, p, u, c = objective.rows(block, s, conjugate=True)
        value, primal, conjugate = value + v, primal + p, conjugate + c
        U.append(u)
    return value, primal, conjugate, U


def cg_step(
    H: Hessian,
    gradient: np.ndarray,
    precondition: Precondition,
    ridge: float,
    monitor: Monitor,
    preconditioner: Preconditioner,
    sampled: bool,
    settled: float,
) -> tuple[np.ndarray, Arrays, float]:
    """Truncated conjugate gradients (Steihaug 1983).

    The step, its change of the scores, and what is left of the residual.
    """
    r = -gradient
    z = precondition(r)
    step, p = np.zeros_like(r), z.copy()
    change: Arrays = []
    rz = start = float(np.vdot(r, z))
    enough = min(0.01, np.sqrt(start)) * start  # superlinear
    if sampled:
        enough = 0.02 * start  # more would fit the sample, not the rows
    share = len(H.objective.data.y) / monitor.n_rows
    for _ in range(CG_STEPS):
        pushed = H.objective.push(p)
        Hp = H(p, pushed)
        Hp += ridge * p
        curvature = float(np.vdot(p, Hp))
        if not curvature > 0:
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
        z = precondition(r)
        rz, last = float(np.vdot(r, z)), rz
        monitor.count(share)
        preconditioner.worked(H.objective)
        if rz <= enough or monitor.spent:
            break
        if rz <= 0.1 * start and H.objective.variables.slack(r) <= settled:
            break
        p = z + (rz / last) * p
    return step, change, rz / start


def dense_step(
    objective: Objective, state: State, hessians: list[HessianProduct], ridge: float
) -> np.ndarray:
    """Solve with the Hessian written out, one pair of classes at a time."""
    (d1, k), d = objective.shape, objective.data.X.shape[1]
    H = np.zeros((k, d1, k, d1))  # upper triangle of pairs only
    for block, s, product in zip(objective.data, state.scores, hessians, strict=True):
        Z = objective.features(block)  # (m, d1)
        for j in range(k):
            unit = np.zeros_like(s)
            unit[:, j] = 1
            column = product(unit)  # (m, k): second derivatives in s_j and each s_l
            for m in range(j, k):
                rows = np.flatnonzero(column[:, m])  # few on the hinges
                if len(rows):
                    some = Z if len(rows) == len(Z) else Z[rows]
                    H[j, :, m] += some.T @ (column[rows, m][:, None] * some)
    penalty = 2 * objective.alpha * objective.variables.gram
    for j in range(k):
        H[j, :d, j, :d] += penalty
    square = H.reshape(d1 * k, d1 * k)
    diagonal = np.einsum("ii->i", square)
    jitter = 1e-13 * diagonal.mean()  # a constant added to all scores is free
    while True:
        diagonal += ridge + jitter
        try:
            factor = scipy.linalg.cho_factor(square, check_finite=False)
            break
        except np.linalg.LinAlgError:
            ridge, jitter = 0.0, 100 * jitter
    step = scipy.linalg.cho_solve(factor, -state.at.gradient.T.ravel())
    return np.ascontiguousarray(step.reshape(k, d1).T)


def line_search(
    objective: Objective, state: State, step: np.ndarray, change: Arrays
) -> float:
    """Where the slope along the step has almost vanished; 0 if nothing decreases."""
    alpha, at = objective.alpha, state.at
    coef = objective.split(step)[0]
    bend = 2 * alpha * float(np.vdot(coef, coef))
    tilt = 2 * alpha * float(np.vdot(coef, at.coef))

    def probe(t: float) -> tuple[float, float]:
        scores = [s + t * c for s, c in zip(state.scores, change, strict=True)]
        value, _, _, U = visit_rows(objective, scores)
        value += alpha * float(np.vdot(at.coef, at.coef)) + t * tilt + t * t * bend / 2
        return value, _inner(U, change) + tilt + t * bend

    start = _inner(state.U, change) + tilt
    rounding = 500 * np.finfo(objective.data.dtype).eps
    if not start < 0:
        return 0.0
    low, high, t = 0.0, np.inf, 1.0
    low_slope, high_slope = start, np.inf
    for trial in range(60):
        value, slope = probe(t)
        if not (value <= at.value * (1 + rounding) and slope <= 0.1 * -start):
            high, high_slope = t, max(slope, 1e-3 * -start)
        elif slope < 0.5 * start and high < np.inf:
            low, low_slope = t, slope
        else:
            return t
        secant = low_slope / (low_slope - high_slope)
        if trial > 5:
            secant = 0.5  # the slope jumps where margins begin and end
        t = low + (high - low) * min(max(secant, 0.1), 0.9)
    return low


def _inner(U: Arrays, change: Arrays) -> float:
    """<U, change> over all blocks."""
    return sum(float(np.vdot(u, c)) for u, c in zip(U, change, strict=True))
