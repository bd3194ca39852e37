"""Newton's method on rows of which nothing is kept: a file's, or other machines'.

Every visit starts from params and ends in sums over the rows, O(d k) numbers, or O(d^2)
and O((d k)^2) for a preconditioner and a dense Hessian. The hinge's multipliers (n, k)
are not kept either: they come of the scores at the few points where the smoothing was
centred, once more in each visit.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sklinear._duality import dual_value
from sklinear._objective import Objective, Point, probe, visits
from sklinear._solvers._curvature import Hessian, StreamedHessian
from sklinear._solvers._preconditioner import (
    Precondition,
    Preconditioner,
    inverse_of_blocks,
    streamed_inverse,
)
from sklinear._solvers._solution import Monitor
from sklinear._solvers._steps import State, cg_step, streamed_dense_step

LENGTHS = 8  # steps that one pass of a line search looks at
SHORTEST = 1e-3  # of them, in units of the longest
INNER = 1e-3  # of a residual, what the excerpt's own conjugate gradients leave
# Of conjugate gradients for a digit of the residual, from which on an excerpt is too
# unlike all the rows: of those near a boundary it has too few. Blocks do better then.
PASSES = 6
SEARCHES = 8  # passes of a line search: the last bracket is below rounding


def visit(objective: Objective, params: np.ndarray) -> State:
    """Everything about a point, in one pass."""
    at = objective.evaluate(params, conjugate=True)
    return State(params, [], objective.at(params), at, dual_value(objective, at))


def step(
    objective: Objective,
    state: State,
    monitor: Monitor,
    preconditioner: Preconditioner,
    dense: bool,
    ridge: float,
    settled: float,
) -> tuple[State | None, float]:
    """The next point, or None if rounding hides every decrease.

    Also what part of the distance from the optimum the step should leave. A pass a
    dense step, or about one for each step of conjugate gradients, few where there is an
    excerpt of the rows; one for the next point, and two more where the whole step is
    too long.
    """
    gradient, at, promise = state.at.gradient, state.U, 0.0
    assert isinstance(at, Point)
    monitor.count()
    if dense:
        move = streamed_dense_step(objective, at, gradient, ridge)
    else:
        ridge *= 1e-2
        before = len(monitor.history)
        excerpt = objective.data.excerpt is not None and preconditioner.excerpt_helps
        if excerpt:
            inverse = inverse_of_excerpt(objective, at, ridge, monitor, preconditioner)
        else:
            rng = preconditioner.rng
            build = partial(streamed_inverse, objective, at, ridge, rng)
            inverse = preconditioner(build)
        H = StreamedHessian(objective, at)
        move, _, promise = cg_step(
            H, gradient, inverse, ridge, monitor, preconditioner, None, settled
        )
        taken = len(monitor.history) - before
        if excerpt and taken > PASSES * -np.log10(np.clip(promise, 1e-300, 1.0)):
            preconditioner.excerpt_helps, preconditioner.stale = False, True
    return _search(objective, state, move), promise


def inverse_of_excerpt(
    objective: Objective,
    at: Point,
    ridge: float,
    monitor: Monitor,
    preconditioner: Preconditioner,
) -> Precondition:
    """The inverse of the Hessian of an excerpt of the rows: no pass over the others."""
    few = objective.replace(data=objective.data.excerpt)
    diagonal = np.empty((few.data.shape[0], few.data.n_classes), few.data.dtype, "F")
    products = []
    for block, loss, (scores,) in visits(few.data, at):
        products.append(loss.hessian(scores, block.y, block.weights))
        part = loss.diagonal(scores, block.y)
        np.multiply(part, block.weights[:, None], out=diagonal[block.rows])
    build = partial(inverse_of_blocks, few, diagonal, ridge, preconditioner.rng)
    H, blocks = Hessian(few, products), preconditioner(build)

    def apply(r: np.ndarray) -> np.ndarray:
        return cg_step(H, -r, blocks, ridge, monitor, preconditioner, INNER, 0.0)[0]

    return apply


def _search(objective: Objective, state: State, move: np.ndarray) -> State | None:
    """The point where the slope along the move has almost vanished, if any is lower."""
    start = float(np.vdot(state.at.gradient, move))
    if not start < 0:
        return None
    highest = state.at.value * (1 + 500 * np.finfo(objective.data.dtype).eps)
    there = visit(objective, state.params + move)
    slope = float(np.vdot(there.at.gradient, move))
    if there.at.value <= highest and slope <= 0.1 * -start:
        return there
    length = _length(objective, state, move, start, slope, highest)
    return visit(objective, state.params + length * move) if length else None


def _length(
    objective: Objective,
    state: State,
    move: np.ndarray,
    start: float,
    end: float,
    highest: float,
) -> float:
    """How much of a move that is too long to go, by a few lengths at a time.

    ``start`` and ``end`` are the slopes at 0 and 1.
    """
    alpha, W = objective.alpha, state.at.coef
    direction = objective.split(move)
    bend = 2 * alpha * float(np.vdot(direction[0], direction[0]))
    tilt = 2 * alpha * float(np.vdot(direction[0], W))
    penalty = alpha * float(np.vdot(W, W))
    low, high, low_slope, high_slope = 0.0, 1.0, start, end
    for _ in range(SEARCHES):
        lengths = np.linspace(low, high, LENGTHS + 1)[1:-1]
        if low == 0:
            lengths = high * np.geomspace(SHORTEST, 0.8, LENGTHS - 1)
        secant = low_slope / (low_slope - max(high_slope, 1e-3 * -start))
        lengths = np.sort(np.append(lengths, low + (high - low) * secant))
        values, slopes = objective.data.total(probe, state.U, direction, lengths)
        values += penalty + lengths * (tilt + lengths * bend / 2)
        slopes += tilt + lengths * bend
        for t, value, slope in zip(lengths, values, slopes, strict=True):
            if not (value <= highest and slope <= 0.1 * -start):
                high, high_slope = float(t), float(slope)
                break
            if slope >= 0.5 * start:
                return float(t)
            low, low_slope = float(t), float(slope)
    return low
