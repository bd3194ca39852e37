"""Newton's method: the last steps of a fit, where precision comes from curvature.

Semismooth on the hinges (Qi and Sun 1993): the generalised Hessian keeps the violated
margins. The hinge itself is the limit of a method of multipliers (Rockafellar 1976):
its smooth steps are centred at the last multipliers, so that the limit is the hinge's
own optimum while the widths stay far from rounding. What Newton cannot solve in a few
steps is solved for ten times alpha first: the active set then changes little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.linalg

from sklinear._duality import dual_value
from sklinear._losses import HessianProduct, Hinge
from sklinear._objective import Evaluation, Objective
from sklinear._solvers._solution import Monitor, Witness

LARGEST_DENSE = 800  # params up to which a dense Hessian beats conjugate gradients
PATIENCE = 15  # Newton steps at one alpha and width before a larger alpha is asked
RIDGE = 1e-2  # damping in units of the gradient's norm: vanishes at the optimum
CG_STEPS = 250  # of one Newton step
LARGEST_BLOCK, LARGEST_BLOCKS = 200, 2**22  # numbers in blocks that precondition them
INNER = 0.1  # how well, relative to the gap, a smoothed hinge is solved
SMALLEST_WIDTH = 1e-8  # in units of delta

Arrays = list[np.ndarray]  # (m, k), one a block


class _State(NamedTuple):
    """A point with all that one visit to the data tells of it."""

    params: np.ndarray
    scores: Arrays
    U: Arrays  # weighted score gradients
    at: Evaluation
    dual: float


def newton(
    objective: Objective,
    params: np.ndarray,
    monitor: Monitor,
    exact: bool = False,
    detours: int = 12,
) -> None:
    """Minimise until ``monitor.done`` or, where ``exact``, until rounding stops it.

    A step costs a dense Hessian, O(n d^2 k^2), up to LARGEST_DENSE params; beyond them
    as many passes over X as conjugate gradients take. O(n k + d k) memory besides.
    """
    if isinstance(objective.loss, Hinge):
        loss = objective.loss
        objective = objective.replace(loss=Hinge(loss.delta, width=loss.delta / 2))
    patience = PATIENCE if objective.alpha > 0 and detours else np.inf
    if _descend(objective, params, monitor, exact, patience):
        return
    detour = monitor.detour(tol=max(monitor.tol, 1e-3))
    easier = objective.replace(alpha=10 * objective.alpha)
    newton(easier, params, detour, detours=detours - 1)
    assert detour.params is not None
    _descend(objective, detour.params, monitor, exact, patience=np.inf)


def _descend(
    objective: Objective,
    params: np.ndarray,
    monitor: Monitor,
    exact: bool,
    patience: float,
) -> bool:
    """Newton steps at one alpha; False if they ran out of patience."""
    hinge = isinstance(objective.loss, Hinge)
    state = _visit(objective, params, objective.push(params))
    nearest = closest = np.inf  # best gap, and best distance at this smoothing
    stalls = idle = steps = 0
    smallest = False
    while True:
        witness = Witness(state.U, state.at)
        monitor.offer(state.params, state.at.primal, state.dual, witness)
        if (monitor.done and not exact) or monitor.spent:
            return True
        gap = max(state.at.primal - state.dual, 0.0)
        off = _distance(objective, state)
        idle = idle + 1 if off > closest / 2 else 0
        closest = min(off, closest)
        if monitor.done and (idle > 3 or off == 0):
            return True  # rounding has the last word
        if hinge and off <= INNER * gap:
            slow = gap > nearest / 2
            nearest = min(gap, nearest)
            stalls = stalls + 1 if slow and (monitor.done or smallest) else 0
            if stalls > 3:
                return True
            objective, smallest = _recentre(objective, state, 0.1 if slow else 0.5)
            state = _visit(objective, state.params, state.scores)
            closest, idle, steps = np.inf, 0, 0
        if steps >= patience and monitor.gap > 1e-8:
            return False
        following = _step(objective, state, monitor)
        if following is None:
            return True
        steps += 1
        state = following


def _distance(objective: Objective, state: _State) -> float:
    """How far the (smoothed) objective is above its own optimum, at most.

    Without a penalty there is no bound; then the squared gradient, whose metric is
    nearly that of the Hessian, is an estimate.
    """
    at, alpha = state.at, objective.alpha
    if alpha == 0:
        return float(np.vdot(at.gradient, at.gradient))
    slack = at.pulled + 2 * alpha * at.coef
    unbalanced = dual_value(objective, at, balance=False) - state.dual
    return float(np.vdot(slack, slack)) / (4 * alpha) + max(unbalanced, 0.0)


def _recentre(
    objective: Objective, state: _State, shrink: float
) -> tuple[Objective, bool]:
    """The hinge smoothed around the multipliers of this point, over less width.

    Also whether the width is the smallest that rounding allows.
    """
    loss = objective.loss
    assert isinstance(loss, Hinge)
    centre = np.zeros((len(objective.data.y), objective.data.n_classes), order="F")
    for block, scores in zip(objective.data, state.scores, strict=True):
        centre[block.rows] = loss.rows(block.rows)(scores, block.y)[1]
    centre[np.arange(len(centre)), objective.data.y] = 0
    width = max(loss.width * shrink, SMALLEST_WIDTH * loss.delta)
    smooth = replace(loss, centre=centre, width=width)
    return objective.replace(loss=smooth), width <= SMALLEST_WIDTH * loss.delta


def _visit(objective: Objective, params: np.ndarray, scores: Arrays) -> _State:
    """Everything about a point whose scores are known: half a pass over X."""
    value, primal, conjugate, U = _rows(objective, scores)
    pulled, residual = objective.pull(U)
    W = objective.split(params)[0]
    at = objective.assemble(W, value, primal, conjugate, pulled, residual)
    return _State(params, scores, U, at, dual_value(objective, at))


def _rows(objective: Objective, scores: Arrays) -> tuple[float, float, float, Arrays]:
    """Sums over the blocks of value, primal value and conjugate, and U."""
    value = primal = conjugate = 0.0
    U = []
    for block, s in zip(objective.data, scores, strict=True):
        v, p, u, c = objective.rows(block, s, conjugate=True)
        value, primal, conjugate = value + v, primal + p, conjugate + c
        U.append(u)
    return value, primal, conjugate, U


def _step(objective: Objective, state: _State, monitor: Monitor) -> _State | None:
    """The next point, or None if rounding hides every decrease."""
    hessians = [
        objective.loss.rows(block.rows).hessian(s, block.y, block.weights)
        for block, s in zip(objective.data, state.scores, strict=True)
    ]
    gradient = state.at.gradient
    ridge = RIDGE * min(1.0, float(np.linalg.norm(gradient)))
    if gradient.size <= LARGEST_DENSE:
        step = _dense_step(objective, state, hessians, ridge)
        change = objective.push(step)
        monitor.count()
    else:
        step, change = _cg_step(objective, state, hessians, ridge, monitor)
    t = _line_search(objective, state, step, change)
    if t == 0:
        return None
    scores = [s + t * c for s, c in zip(state.scores, change, strict=True)]
    return _visit(objective, state.params + t * step, scores)


def _cg_step(
    objective: Objective,
    state: _State,
    hessians: list[HessianProduct],
    ridge: float,
    monitor: Monitor,
) -> tuple[np.ndarray, Arrays]:
    """Truncated conjugate gradients (Steihaug 1983), and the scores' change."""
    precondition = _preconditioner(objective, state, hessians, ridge)
    r = -state.at.gradient
    z = precondition(r)
    step, p = np.zeros_like(r), z.copy()
    change = [np.zeros_like(s) for s in state.scores]
    rz = start = float(np.vdot(r, z))
    enough = min(0.01, np.sqrt(start)) * start  # superlinear
    for _ in range(CG_STEPS):
        pushed = objective.push(p)
        Hp = objective.gradient(
            objective.split(p)[0],
            *objective.pull([h(c) for h, c in zip(hessians, pushed, strict=True)]),
        )
        Hp += ridge * p
        curvature = float(np.vdot(p, Hp))
        if curvature <= 0:
            break
        a = rz / curvature
        step += a * p
        for c, s in zip(change, pushed, strict=True):
            c += a * s
        r -= a * Hp
        z = precondition(r)
        rz, last = float(np.vdot(r, z)), rz
        monitor.count()
        if rz <= enough or monitor.spent:
            break
        p = z + (rz / last) * p
    return step, change


def _preconditioner(
    objective: Objective, state: _State, hessians: list[HessianProduct], ridge: float
) -> Callable[[np.ndarray], np.ndarray]:
    """The inverse of the Hessian's diagonal blocks, one a class; or nothing.

    On the hinges few margins are active, others in each class, so that the factor that
    all classes share says little.
    """
    (d1, k), d = objective.shape, objective.data.X.shape[1]
    if d1 > LARGEST_BLOCK or k * d1 * d1 > LARGEST_BLOCKS:
        return np.copy
    H = np.zeros((k, d1, d1))
    for block, s, hessian in zip(objective.data, state.scores, hessians, strict=True):
        Z = objective.features(block)  # (m, d1)
        for j in range(k):
            unit = np.zeros_like(s)
            unit[:, j] = 1
            own = hessian(unit)[:, j]
            rows = np.flatnonzero(own)
            some = Z if len(rows) == len(Z) else Z[rows]
            H[j] += some.T @ (own[rows][:, None] * some)
    H[:, :d, :d] += 2 * objective.alpha * objective.variables.gram
    diagonal = np.einsum("jii->ji", H)
    diagonal += ridge + 1e-10 * diagonal.mean()
    inverse = np.linalg.inv(H)
    return lambda r: np.ascontiguousarray((inverse @ r.T[:, :, None])[:, :, 0].T)


def _dense_step(
    objective: Objective, state: _State, hessians: list[HessianProduct], ridge: float
) -> np.ndarray:
    """Solve with the Hessian written out, one pair of classes at a time."""
    (d1, k), d = objective.shape, objective.data.X.shape[1]
    H = np.zeros((k, d1, k, d1))  # upper triangle of pairs only
    for block, s, hessian in zip(objective.data, state.scores, hessians, strict=True):
        Z = objective.features(block)  # (m, d1)
        for j in range(k):
            unit = np.zeros_like(s)
            unit[:, j] = 1
            column = hessian(unit)  # (m, k): second derivatives in s_j and each s_l
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


def _line_search(
    objective: Objective, state: _State, step: np.ndarray, change: Arrays
) -> float:
    """Where the slope along the step has almost vanished; 0 if nothing decreases."""
    alpha, at = objective.alpha, state.at
    coef = objective.split(step)[0]
    bend = 2 * alpha * float(np.vdot(coef, coef))
    tilt = 2 * alpha * float(np.vdot(coef, at.coef))

    def probe(t: float) -> tuple[float, float]:
        scores = [s + t * c for s, c in zip(state.scores, change, strict=True)]
        value, _, _, U = _rows(objective, scores)
        value += alpha * float(np.vdot(at.coef, at.coef)) + t * tilt + t * t * bend / 2
        return value, _inner(U, change) + tilt + t * bend

    start = _inner(state.U, change) + tilt
    if not start < 0:
        return 0.0
    low, high, t = 0.0, np.inf, 1.0
    low_slope, high_slope = start, np.inf
    for _ in range(40):
        value, slope = probe(t)
        if not (value <= at.value * (1 + 1e-13) and slope <= 0.1 * -start):
            high, high_slope = t, max(slope, 1e-3 * -start)
        elif slope < 0.5 * start and high < np.inf:
            low, low_slope = t, slope
        else:
            return t
        secant = low_slope / (low_slope - high_slope)
        t = low + (high - low) * min(max(secant, 0.1), 0.9)
    return low


def _inner(U: Arrays, change: Arrays) -> float:
    """<U, change> over all blocks."""
    return sum(float(np.vdot(u, c)) for u, c in zip(U, change, strict=True))
