"""Newton steps at one penalty: what each is, and when they are to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from sklinear._data import Block
from sklinear._duality import distance, dual_value
from sklinear._losses import CrossEntropy, Hinge
from sklinear._objective import Objective
from sklinear._solvers import _streaming as streaming
from sklinear._solvers._active import (
    active_cost,
    active_hessian,
    active_margins,
    active_step,
    written_cost,
)
from sklinear._solvers._costs import is_cheap, is_dense, is_sampled
from sklinear._solvers._curvature import Arrays, diagonals, hessian, whole_hessian
from sklinear._solvers._frame import is_unbalanced, settled
from sklinear._solvers._preconditioner import Preconditioner, inverse_of_blocks
from sklinear._solvers._solution import ROUNDING, Monitor, Witness
from sklinear._solvers._steps import (
    Iterate,
    Sums,
    cg_step,
    dense_step,
    line_search,
    sampled_whole,
    visit_rows,
    written_out,
)

LARGEST_ACTIVE = 4096  # params up to which active margins may be written out
SKINNY = 1.5  # times as long an operation takes in a product with few columns
LAST_RESORT = 3e10  # operations of a dense step where conjugate gradients got nowhere
IDLE, FLAT = 100, 10  # steps that bring the optimum no nearer, or do not even descend
EARLY = 6  # of these, where nothing is known yet and they have led nowhere
EARLIEST, SHORT = 2, 0.2  # or of the first at a width, each less than such a part
ROUGHLY = 0.5  # gap above which little is known, and which will do at a larger alpha
INNER = 0.1  # how well, relative to the gap, a smoothed hinge is solved
INNER_IDLE = 0.5  # the same where rounding keeps it from being solved any better
INNER_BLIND = 0.01  # the same while no lower bound is known
INNER_UNBOUNDED = 1e-6  # without a penalty: less would lead above the optimum
NARROWEST = 0.4  # power of eps: a margin's rounding by it is the multiplier's error
ROUGH = 0.02  # more would fit the sample, not the rows
SETTLED = 0.1  # of the gap that is asked for: what a last step may leave
ROUNDING_SINGLE = 1e-6  # the relative descent that float32 tells from none
LITTLE = 1e-12  # gap from which one step without gain is the last
POLISHED = 1e-10  # gap that is as good as rounding where each pass takes its time


def descend(
    objective: Objective,
    params: np.ndarray,
    monitor: Monitor,
    exact: bool,
    patience: float,
    preconditioner: Preconditioner,
    share: float,
    leave: Callable[[np.ndarray], bool] | None = None,
) -> tuple[bool, Objective, np.ndarray]:
    """Newton steps at one alpha: False if they ran out of patience, and their end.

    The first Hessians are taken from a ``share`` of the rows. An ``exact`` end is where
    rounding stops the steps. Of each point it is asked whether to ``leave``, which is
    an end as good as another.
    """
    # what all classes share is only penalised, and no step would change it
    state = _visit(objective, params - params.mean(axis=1)[:, None])
    pace = _Pace(objective, exact)
    while True:
        if leave is not None and leave(state.params):
            return True, objective, state.params
        if _suffices(objective, state, monitor, exact) or monitor.spent:
            return True, objective, state.params
        if is_unbalanced(objective, state.params, state.at, monitor):
            state = _settled(objective, state)
            if _suffices(objective, state, monitor, exact):
                return True, objective, state.params
        if pace.see(objective, state, monitor):
            share *= 2  # the sample was too small for the step it promised
        if pace.single and (pace.flat > pace.few or preconditioner.failed):
            preconditioner.failed = False  # float64 may do better
            return True, objective, state.params
        if pace.rests:
            return True, objective, state.params  # rounding has the last word
        if pace.hinge and pace.is_solved(state):
            slow, stalled = pace.end_width(state, monitor)
            if stalled:
                return True, objective, state.params
            objective, pace.smallest = _recentre(objective, state, 0.1 if slow else 0.5)
            state = _visit(objective, state.params, state.scores)
            preconditioner.stale = True
            if _suffices(objective, state, monitor, exact):
                return True, objective, state.params
        if pace.is_lost(monitor, patience):
            return False, objective, state.params
        following, pace.promise = _step(
            objective, state, monitor, preconditioner, share
        )
        if following is None:  # rounding hides every gain, or spoils the step
            spoilt = patience < np.inf and monitor.gap > ROUGHLY
            narrower = pace.hinge and pace.bounded and not pace.smallest
            if spoilt or monitor.done or not narrower:
                return not spoilt, objective, state.params
            pace.blocked = True
            continue
        pace.step(preconditioner.length)
        state = following


class _Pace:
    """How steps at one alpha get on, and of a hinge those at one width."""

    def __init__(self, objective: Objective, exact: bool):
        self.hinge = isinstance(objective.loss, Hinge)
        self.bounded, self.exact = objective.alpha > 0, exact
        self.single = objective.data.dtype.itemsize < 8
        self.nearest = self.least = np.inf  # gap and value that a width has ended at
        self.stalls = 0  # widths that have ended no nearer
        self.smallest = False  # whether no width is less
        self.blocked = False  # whether steps at this one lead no further
        self.before = np.inf  # the distance from the optimum at the last step
        self.first, self.promise = np.inf, 0.0  # at the first, and hoped for of it
        self.gap, self.few, self.rests = np.inf, 3, False  # as the last point was seen
        self._begin()

    def _begin(self) -> None:
        """With steps at a new width."""
        self.closest = self.lowest = self.off = np.inf
        self.idle = self.flat = self.steps = 0
        self.longest = 0.0  # of these steps, as a part of the whole one

    def see(self, objective: Objective, state: Iterate, monitor: Monitor) -> bool:
        """Where the last step has led; whether not nearly where it should have."""
        value, promise = state.at.value, self.promise
        gap = min(state.at.primal - state.dual, monitor.gap * monitor.primal)
        self.gap = max(gap, 0.0)
        self.off = distance(objective, state.at, state.dual)
        # the first step, from another problem's end, has its curvature against it
        short = self.steps > 1 and self.off > max(4 * promise, 0.2) * self.before
        rounding = (ROUNDING_SINGLE if self.single else ROUNDING) * value
        lower = value < self.lowest - (rounding if self.bounded else 0)
        self.flat = 0 if lower else self.flat + 1
        if self.bounded and not self.exact:  # what is left is no gap that matters
            lower &= not self.hinge and value < (1 - monitor.tol / IDLE) * self.lowest
        self.idle = self.idle + 1 if self.off >= self.closest / 2 and not lower else 0
        self.closest, self.lowest = min(self.off, self.closest), min(value, self.lowest)
        known = monitor.done or not self.bounded
        known |= self.single and monitor.gap < 1e-3
        if self.idle > IDLE or self.flat > FLAT:
            # a hinge rounded over less width may tell more
            self.blocked, known = True, known or self.smallest or not self.hinge
        self.few = 0 if monitor.gap <= LITTLE else 3  # steps that rounding may cost
        self.rests = known and self.idle > self.few
        return short

    def is_solved(self, state: Iterate) -> bool:
        """Whether the hinge at this width is, as well as its own gap asks."""
        seen = INNER if self.idle <= 3 else INNER_IDLE
        inner = seen if state.dual > 0 else INNER_BLIND
        inner = inner if self.bounded else INNER_UNBOUNDED
        return self.blocked or self.off <= inner * self.gap

    def end_width(self, state: Iterate, monitor: Monitor) -> tuple[bool, bool]:
        """Whether this width has led no nearer, and so have more than a few others."""
        primal = state.at.primal
        slow = self.gap >= self.nearest / 2 and primal > self.least / 2  # 0: at rest
        self.nearest, self.least = min(self.gap, self.nearest), min(primal, self.least)
        more = slow and (monitor.done or self.smallest)
        self.stalls = self.stalls + 1 if more else 0
        self.blocked = False
        self._begin()
        return slow, self.stalls > self.few

    def step(self, length: float) -> None:
        """A step of such a part was taken."""
        self.steps += 1
        self.longest = max(length, self.longest)

    def is_lost(self, monitor: Monitor, patience: float) -> bool:
        """Whether steps are too many, or lead nowhere where nothing is known yet."""
        fast = self.off <= self.before / 4
        self.first = self.off if self.steps == 0 else self.first
        nowhere = self.steps >= EARLY and self.off > self.first / 2
        nowhere |= self.steps >= EARLIEST and self.longest < SHORT
        nowhere &= monitor.gap > ROUGHLY
        many = self.steps >= patience and monitor.gap > 1e-8
        self.before = self.off
        return (nowhere or many) and patience < np.inf and not fast


def _settled(objective: Objective, state: Iterate) -> Iterate:
    """The state with an intercept of its own minimum, nearly, if that is lower."""

    def bend(block: Block, scores: np.ndarray) -> np.ndarray:
        loss = objective.loss.rows(block.rows)
        return loss.total_hessian(scores, block.y, block.weights)

    H = np.sum([*objective.data.each(bend, state.scores)], axis=0)
    params = settled(state.params, state.at.residual, H)
    change = (params[-1] - state.params[-1]).astype(objective.data.dtype)
    there = _visit(objective, params, [scores + change for scores in state.scores])
    return there if there.at.value <= state.at.value else state


def _suffices(
    objective: Objective, state: Iterate, monitor: Monitor, exact: bool
) -> bool:
    """Offer a point, and whether what is known now is all that is asked."""
    witness = Witness(state.U, state.at)
    monitor.offer(state.params, state.at.primal, state.dual, witness)
    enough = POLISHED if objective.data.streamed else monitor.polish
    return monitor.done and (not exact or monitor.gap <= enough)


def _recentre(
    objective: Objective, state: Iterate, shrink: float
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
) -> Iterate:
    """Everything about a point; half a pass over X where its scores are known."""
    if objective.data.streamed:
        return streaming.visit(objective, params)
    scores = objective.push(params) if scores is None else scores
    value, primal, conjugate, U = sums or visit_rows(objective, scores)
    pulled, residual = objective.pull(U)
    W = objective.split(params)[0]
    at = objective.assemble(W, value, primal, conjugate, pulled, residual)
    return Iterate(params, scores, U, at, dual_value(objective, at))


def _step(
    objective: Objective,
    state: Iterate,
    monitor: Monitor,
    preconditioner: Preconditioner,
    share: float,
) -> tuple[Iterate | None, float]:
    """The next point, or None if rounding hides every decrease.

    Also what part of the distance from the optimum the step should leave.
    """
    gradient = state.at.gradient
    ridge = preconditioner.ridge(gradient)
    # the residual that is left, if it is the next gradient, tells the next gap
    settled = SETTLED * 4 * objective.alpha * monitor.tol * state.at.primal
    if objective.data.streamed:
        return streaming.step(objective, state, monitor, preconditioner, ridge, settled)
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
    objective: Objective, state: Iterate, ridge: float, tried: float
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
