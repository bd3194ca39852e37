"""Newton's method, for all losses and sizes.

Semismooth on the hinges (Qi and Sun 1993): the generalised Hessian keeps the violated
margins. The hinge itself is the limit of a method of multipliers (Rockafellar 1976):
its smooth steps are centred at the last multipliers, so that the limit is the hinge's
own optimum while the widths stay far from rounding. What Newton cannot solve in a few
steps is solved for ten times alpha first: the active set then changes little.

Large data are solved on a growing sample of rows first, with a stronger penalty the
fewer they are, and in the data's own precision before float64 has the last word.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from sklinear._data import Block, Data
from sklinear._duality import distance, dual_value
from sklinear._losses import CrossEntropy, Hinge, Loss
from sklinear._objective import Objective
from sklinear._solvers import _streaming as streaming
from sklinear._solvers._active import (
    active_cost,
    active_hessian,
    active_margins,
    active_step,
    written_cost,
)
from sklinear._solvers._costs import is_cheap, is_dense, is_polished, is_sampled
from sklinear._solvers._curvature import Arrays, diagonals, hessian, whole_hessian
from sklinear._solvers._frame import Start, framed, is_unbalanced, settled, smoothed
from sklinear._solvers._preconditioner import Preconditioner, inverse_of_blocks
from sklinear._solvers._solution import ROUNDING, Monitor, Options, Solution, Witness
from sklinear._solvers._steps import (
    State,
    Sums,
    cg_step,
    dense_step,
    line_search,
    sampled_whole,
    visit_rows,
    written_out,
)
from sklinear._variables import Variables, choose_variables

LARGEST_DENSE = 800  # params up to which variables get a factor of their own
LARGEST_ACTIVE = 4096  # params up to which active margins may be written out
SKINNY = 1.5  # times as long an operation takes in a product with few columns
LAST_RESORT = 3e10  # operations of a dense step where conjugate gradients got nowhere
PATIENCE = 15  # Newton steps at one alpha and width before a larger alpha is asked
IDLE, FLAT = 100, 10  # steps that bring the optimum no nearer, or do not even descend
EARLY = 6  # of these, where nothing is known yet and they have led nowhere
ROUGHLY = 0.5  # gap at the larger alpha
INNER = 0.1  # how well, relative to the gap, a smoothed hinge is solved
INNER_IDLE = 0.5  # the same where rounding keeps it from being solved any better
INNER_BLIND = 0.01  # the same while no lower bound is known
INNER_UNBOUNDED = 1e-6  # without a penalty: less would lead above the optimum
FIRST_SHARE = 0.2  # of the rows, in the first Hessians of large data
LARGE = 2**22  # numbers in X from which on first Hessians are rough
FEWEST_ROWS = 1024  # to centre and scale by
COPIED = 0.6  # bytes for each value of X, in a sample of its rows
GROWTH = 4  # of the sample of rows, from one stage to the next
NARROWEST = 0.4  # power of eps: a margin's rounding by it is the multiplier's error
ROUGH = 0.02  # more would fit the sample, not the rows
SETTLED = 0.1  # of the gap that is asked for: what a last step may leave
DRAFT_TOL = 0.9  # of the gap that is asked for: in float32, which may be off by 1e-6
DRAFT = 1e-2  # gap to which a sample is solved
ROUNDING_SINGLE = 1e-6  # the relative descent that float32 tells from none
LITTLE = 1e-12  # gap from which one step without gain is the last
POLISHED = 1e-10  # gap that is as good as rounding where each pass takes its time


def newton(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: Start,
    options: Options,
) -> Solution:
    """Minimise until the duality gap is at most ``tol`` of the objective.

    A step costs a dense Hessian, O(n d^2 k^2), where that is little; else
    about as many passes over its rows as conjugate gradients take, preconditioned by
    one block a class. O(n k + k d^2) memory and a sample of the rows.
    """
    return framed(solve, variables, data, loss, alpha, fit_intercept, start, options)


def variables(data: Data, loss: Loss, alpha: float, fit_intercept: bool) -> Variables:
    """Centre and scale; the blocks of the Hessian do the rest where it is not dense."""
    n, d = data.shape
    large = (d + fit_intercept) * data.n_classes > LARGEST_DENSE
    few = n // GROWTH**2
    if data.excerpt is not None:
        data = data.excerpt
    elif data.streamed:  # no sample to do without, and passes cost more than a factor
        return choose_variables(data, alpha, loss.curvature, fit_intercept)
    elif large and few >= FEWEST_ROWS and alpha > 0 and not data.sparse:
        rows = np.random.RandomState(0).permutation(n)[:few]
        weights = data.weights[rows]
        if weights.any():
            data = data.sample(rows, weights / weights.sum())
    return choose_variables(data, alpha, loss.curvature, fit_intercept, diagonal=large)


def solve(objective: Objective, monitor: Monitor) -> None:
    """Newton's method from the monitor's point."""
    assert monitor.params is not None
    params, data = monitor.params, objective.data
    rng = np.random.RandomState(0)
    rounded = smoothed(objective, params)
    preconditioner = Preconditioner(rng)
    on_samples = _on_samples(rounded, params, monitor, preconditioner, rng)
    if on_samples is not params:
        params, rounded = on_samples, smoothed(objective)
    if not is_dense(objective) and data.dtype == np.float32:
        draft = monitor.detour(max(DRAFT_TOL * monitor.tol, 1e-6), drafting=True)
        single = rounded.replace(data=data.astype(np.float32))
        preconditioner.failed, share = False, _first_share(single)
        _, end, _ = _descend(
            single, params, draft, False, 2 * PATIENCE, preconditioner, share
        )
        assert draft.params is not None
        params, rounded = draft.params, rounded.replace(loss=end.loss)
    exact = rounded.replace(data=data.astype(np.float64))
    refine(exact, params, monitor, preconditioner=preconditioner)


def _on_samples(
    objective: Objective,
    params: np.ndarray,
    monitor: Monitor,
    preconditioner: Preconditioner,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Solve for few rows, then for more, where the data are large but within reach."""
    data, (d1, k) = objective.data, objective.shape
    excerpt = data.excerpt
    if data.streamed and excerpt is None:
        return params
    data = excerpt or data
    rows = np.flatnonzero(data.weights)
    n = len(rows) * (GROWTH if excerpt else 1)  # the excerpt is the last sample
    cost = n * d1 * k * (d1 * k if is_dense(objective) else 100)
    if cost < 1e9:
        return params
    if not is_dense(objective) and data.dtype == np.float32:
        data = data.astype(np.float32)
    order = rng.permutation(rows)
    firsts = np.unique(data.y[order], return_index=True)[1]  # no sample lacks a class
    order = np.r_[order[firsts], np.delete(order, firsts)]
    least = n // GROWTH**2
    most = max(int(COPIED * n / data.X.dtype.itemsize), least)
    for count in (least, min(GROWTH * least, most)):
        if count >= max(4 * d1, k):
            alpha = objective.alpha * np.sqrt(n / count)
            some = objective.replace(data=_of_rows(data, order[:count]), alpha=alpha)
            draft = monitor.detour(DRAFT)
            _descend(some, params, draft, False, PATIENCE, preconditioner, 1.0)
            assert draft.params is not None
            params = draft.params
            del some, draft  # or the next sample lies beside this one
            objective = smoothed(objective)
    return params


def _of_rows(data: Data, rows: np.ndarray) -> Data:
    """A copy of some rows, of total weight 1."""
    rows = np.sort(rows)
    weights = data.weights[rows]
    return data.sample(rows, weights / weights.sum())


def refine(
    objective: Objective,
    params: np.ndarray,
    monitor: Monitor,
    detours: int = 12,
    preconditioner: Preconditioner | None = None,
) -> np.ndarray:
    """Minimise until ``monitor.done`` or, where that is cheap, until rounding stops it.

    Gives the last point, which of a rounded hinge need not be the best that was met.

    Rows of which nothing is kept take part by ``_streaming``.

    In float64, so that what is offered to the monitor is proven.
    """
    polish = monitor.gap > monitor.polish and is_polished(objective)
    if monitor.done and not polish:
        return params
    if preconditioner is None:
        preconditioner = Preconditioner(np.random.RandomState(0))
    patience = PATIENCE if objective.alpha > 0 and detours else np.inf
    share = _first_share(objective)
    finished, _, end = _descend(
        objective, params, monitor, polish, patience, preconditioner, share
    )
    if finished:
        return end
    detour = monitor.detour(max(monitor.tol, ROUGHLY))
    easier = smoothed(objective.replace(alpha=10 * objective.alpha), params)
    end = refine(easier, params, detour, detours - 1, preconditioner)
    objective = smoothed(objective)
    return _descend(objective, end, monitor, polish, np.inf, preconditioner, share)[2]


def _first_share(objective: Objective) -> float:
    """Of the rows that the first Hessians are taken from."""
    n, d = objective.data.shape
    return FIRST_SHARE if n * d > LARGE else 1.0


def _descend(
    objective: Objective,
    params: np.ndarray,
    monitor: Monitor,
    exact: bool,
    patience: float,
    preconditioner: Preconditioner,
    share: float,
) -> tuple[bool, Objective, np.ndarray]:
    """Newton steps at one alpha: False if they ran out of patience, and their end."""
    hinge = isinstance(objective.loss, Hinge)
    # what all classes share is only penalised, and no step would change it
    state = _visit(objective, params - params.mean(axis=1)[:, None])
    nearest = closest = least = np.inf  # best gap, distance at this smoothing, value
    bounded, lowest = objective.alpha > 0, np.inf
    single = objective.data.dtype.itemsize < 8
    rounding = ROUNDING_SINGLE if single else ROUNDING
    stalls = idle = flat = steps = 0
    smallest = blocked = False
    before, first, promise = np.inf, np.inf, 0.0
    while True:
        if _suffices(objective, state, monitor, exact) or monitor.spent:
            return True, objective, state.params
        if is_unbalanced(objective, state.params, state.at, monitor):
            state = _settled(objective, state)
            if _suffices(objective, state, monitor, exact):
                return True, objective, state.params
        gap = max(min(state.at.primal - state.dual, monitor.gap * monitor.primal), 0.0)
        off = distance(objective, state.at, state.dual)
        # the first step, from another problem's end, has its curvature against it
        if steps > 1 and off > max(4 * promise, 0.2) * before:
            share *= 2  # the sample was too small for the step it promised
        lower = state.at.value < lowest - (rounding * state.at.value if bounded else 0)
        flat = 0 if lower else flat + 1
        if bounded and not exact:  # what is left is no gap that matters
            lower &= not hinge and state.at.value < (1 - monitor.tol / IDLE) * lowest
        idle = idle + 1 if off >= closest / 2 and not lower else 0
        closest, lowest = min(off, closest), min(state.at.value, lowest)
        known = monitor.done or not bounded or (single and monitor.gap < 1e-3)
        if idle > IDLE or flat > FLAT:  # a hinge rounded over less width may tell more
            blocked, known = True, known or smallest or not hinge
        few = 0 if monitor.gap <= LITTLE else 3
        if single and (flat > few or preconditioner.failed):
            preconditioner.failed = False  # float64 may do better
            return True, objective, state.params
        if known and idle > few:
            return True, objective, state.params  # rounding has the last word
        seen = INNER if idle <= 3 else INNER_IDLE
        inner = seen if state.dual > 0 else INNER_BLIND
        inner = inner if bounded else INNER_UNBOUNDED
        if hinge and (blocked or off <= inner * gap):
            blocked = False
            slow = gap >= nearest / 2 and state.at.primal > least / 2  # both 0: at rest
            nearest, least = min(gap, nearest), min(state.at.primal, least)
            stalls = stalls + 1 if slow and (monitor.done or smallest) else 0
            if stalls > few:
                return True, objective, state.params
            objective, smallest = _recentre(objective, state, 0.1 if slow else 0.5)
            state = _visit(objective, state.params, state.scores)
            closest = lowest = off = np.inf
            idle = flat = steps = 0
            preconditioner.stale = True
            if _suffices(objective, state, monitor, exact):
                return True, objective, state.params
        fast = off <= before / 4
        first = off if steps == 0 else first
        lost = steps >= EARLY and off > first / 2 and monitor.gap > ROUGHLY
        lost |= steps >= patience and monitor.gap > 1e-8
        if lost and patience < np.inf and not fast:
            return False, objective, state.params
        before = off
        following, promise = _step(objective, state, monitor, preconditioner, share)
        if following is None:  # rounding hides every gain, or spoils the step
            spoilt = patience < np.inf and monitor.gap > ROUGHLY
            if spoilt or monitor.done or smallest or not (hinge and bounded):
                return not spoilt, objective, state.params
            blocked = True
            continue
        steps += 1
        state = following


def _settled(objective: Objective, state: State) -> State:
    """The state with an intercept of its own minimum, nearly, if that is lower."""
    bends = objective.data.each(partial(_bend_intercept, objective), state.scores)
    H = np.sum([*bends], axis=0)
    params = settled(state.params, state.at.residual, H)
    change = (params[-1] - state.params[-1]).astype(objective.data.dtype)
    there = _visit(objective, params, [scores + change for scores in state.scores])
    return there if there.at.value <= state.at.value else state


def _bend_intercept(
    objective: Objective, block: Block, scores: np.ndarray
) -> np.ndarray:
    """A block's Hessian in the intercept."""
    loss = objective.loss.rows(block.rows)
    return loss.total_hessian(scores, block.y, block.weights)


def _suffices(
    objective: Objective, state: State, monitor: Monitor, exact: bool
) -> bool:
    """Offer a point, and whether what is known now is all that is asked."""
    witness = Witness(state.U, state.at)
    monitor.offer(state.params, state.at.primal, state.dual, witness)
    enough = POLISHED if objective.data.streamed else monitor.polish
    return monitor.done and (not exact or monitor.gap <= enough)


def _recentre(
    objective: Objective, state: State, shrink: float
) -> tuple[Objective, bool]:
    """The hinge smoothed around the multipliers of this point, over less width.

    Also whether the width is the smallest that rounding allows.
    """
    loss = objective.loss
    assert isinstance(loss, Hinge)
    smallest = loss.delta * float(np.finfo(objective.data.dtype).eps) ** NARROWEST
    width = max(loss.width * shrink, smallest)
    if objective.data.streamed:
        past = *loss.past, (*objective.split(state.params), loss.width)
        smooth = replace(loss, past=past, width=width)
        return objective.replace(loss=smooth), width <= smallest
    centre = np.zeros((len(objective.data.y), objective.data.n_classes), order="F")
    for block, scores in zip(objective.data, state.scores, strict=True):
        centre[block.rows] = loss.rows(block.rows).multipliers(scores, block.y)
    smooth = replace(loss, centre=centre, width=width)
    return objective.replace(loss=smooth), width <= smallest


def _visit(
    objective: Objective,
    params: np.ndarray,
    scores: Arrays | None = None,
    sums: Sums | None = None,
) -> State:
    """Everything about a point; half a pass over X where its scores are known."""
    if objective.data.streamed:
        return streaming.visit(objective, params)
    scores = objective.push(params) if scores is None else scores
    value, primal, conjugate, U = sums or visit_rows(objective, scores)
    pulled, residual = objective.pull(U)
    W = objective.split(params)[0]
    at = objective.assemble(W, value, primal, conjugate, pulled, residual)
    return State(params, scores, U, at, dual_value(objective, at))


def _step(
    objective: Objective,
    state: State,
    monitor: Monitor,
    preconditioner: Preconditioner,
    share: float,
) -> tuple[State | None, float]:
    """The next point, or None if rounding hides every decrease.

    Also what part of the distance from the optimum the step should leave.
    """
    gradient = state.at.gradient
    ridge = preconditioner.ridge(gradient)
    # the residual that is left, if it is the next gradient, tells the next gap
    settled = SETTLED * 4 * objective.alpha * monitor.tol * state.at.primal
    if objective.data.streamed:
        dense = is_dense(objective)
        return streaming.step(
            objective, state, monitor, preconditioner, dense, ridge, settled
        )
    tried = SKINNY * preconditioner.expected(objective)
    if preconditioner.failed or 2 * len(monitor.history) > monitor.max_iter:
        tried = LAST_RESORT
    monitor.count()
    step, promise = _direct_step(objective, state, ridge, tried), 0.0
    if step is None and is_sampled(objective) and is_dense(objective):
        rng = preconditioner.rng
        build = partial(sampled_whole, objective, state.scores, ridge, rng)
        H, inverse = whole_hessian(objective, state.scores), preconditioner(build)
        step, change, promise = cg_step(
            H, gradient, inverse, ridge, monitor, preconditioner, None, settled
        )
    elif step is not None:
        change = objective.push(step)
    else:
        ridge *= 1e-2
        diagonal = diagonals(objective, state.scores)
        precondition = preconditioner(
            partial(inverse_of_blocks, objective, diagonal, ridge, preconditioner.rng)
        )
        H = hessian(objective, state.scores, diagonal, share, preconditioner.rng)
        del diagonal
        enough = None
        if H.objective is not objective:  # its residual is not the next gradient
            enough, settled = ROUGH, 0.0
        step, change, promise = cg_step(
            H, gradient, precondition, ridge, monitor, preconditioner, enough, settled
        )
        if H.objective is not objective:
            del H  # a copy of its rows
            change = objective.push(step)
    if objective.alpha == 0:
        # nothing holds what all classes share, and no loss sees it
        step -= step.mean(axis=1)[:, None]
        change = objective.push(step)
    end = line_search(objective, state, step, change)
    preconditioner.took(end.length if end else 0.0)
    if end is None:
        return None, promise
    params = state.params + end.length * step
    return _visit(objective, params, end.scores, end.sums), promise


def _direct_step(
    objective: Objective, state: State, ridge: float, tried: float
) -> np.ndarray | None:
    """Newton's step by a factor, or None where that would take more than ``tried``."""
    gradient, dense = state.at.gradient, is_dense(objective)
    if is_cheap(objective) or isinstance(objective.loss, CrossEntropy):
        if not dense or is_sampled(objective):
            return None
        H = written_out(objective, state.scores)
        return dense_step(objective, H, gradient, ridge)
    active = active_margins(objective, state.scores)
    count, (d1, k) = len(active.rows), objective.shape
    written = written_cost(objective, count) if d1 * k <= LARGEST_ACTIVE else np.inf
    dense |= written < tried
    if active_cost(objective, count) < (written if dense else tried):
        step = active_step(objective, state, active, ridge)
        if step is not None:
            return step
    if not dense:
        return None
    return dense_step(objective, active_hessian(objective, active), gradient, ridge)
