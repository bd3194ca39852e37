"""Newton's method on rows of which nothing is kept: a file's, or other machines'.

Every visit starts from params and ends in sums over the rows, O(d k) numbers, or O(d^2)
and O((d k)^2) for a preconditioner and a dense Hessian. The hinge's multipliers (n, k)
are not kept either: they come of the scores at the few points where the smoothing was
centred, once more in each visit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sklinear._data import Data
from sklinear._duality import dual_value
from sklinear._losses import Hinge, Margin
from sklinear._objective import Objective, Point, probe, visits
from sklinear._solvers._active import written_cost
from sklinear._solvers._costs import is_dense
from sklinear._solvers._curvature import Hessian, StreamedHessian
from sklinear._solvers._preconditioner import (
    Precondition,
    Preconditioner,
    inverse_of_blocks,
    product_cost,
    streamed_inverse,
)
from sklinear._solvers._solution import Monitor
from sklinear._solvers._steps import Iterate, cg_step, streamed_dense_step

LENGTHS = 8  # steps that one pass of a line search looks at
SHORTEST = 1e-3  # of them, in units of the longest
INNER = 1e-3  # of a residual, what the excerpt's own conjugate gradients leave
# Of conjugate gradients for a digit of the residual, from which on an excerpt is too
# unlike all the rows: of those near a boundary it has too few. Blocks do better then.
PASSES = 6
EXCERPT_STEPS = 8  # of them, after which the move is taken as it is
WRITTEN = 3072  # params up to which a hinge's Hessian may be written out
ADDED = 8  # operations for a number of each task's, which are added up
ROUND_TRIP = 1e8  # operations that take as long as it does to ask other machines
BENT = 2**25  # bytes of the rows that a hinge bends at, up to which they are copied
SEARCHES = 8  # passes of a line search: the last bracket is below rounding

Build = Callable[..., Any]  # of the ridge and a generator, a preconditioner


def visit(objective: Objective, params: np.ndarray) -> Iterate:
    """Everything about a point, in one pass."""
    at = objective.evaluate(params, conjugate=True)
    return Iterate(params, [], objective.at(params), at, dual_value(objective, at))


def step(
    objective: Objective,
    state: Iterate,
    monitor: Monitor,
    preconditioner: Preconditioner,
    ridge: float,
    settled: float,
) -> tuple[Iterate | None, float]:
    """The next point, or None if rounding hides every decrease.

    Also what part of the distance from the optimum the step should leave. A pass a
    dense step, or about one for each step of conjugate gradients, few where there is an
    excerpt of the rows, one where those that a hinge bends at are copied; one for the
    next point, and two more where the whole step is too long.
    """
    gradient, at, promise = state.at.gradient, state.U, 0.0
    assert isinstance(at, Point)
    monitor.count()
    if is_dense(objective):
        move = streamed_dense_step(objective, at, gradient, ridge)
    else:
        args = monitor, preconditioner, 1e-2 * ridge, settled
        move, promise = _conjugate(objective, at, gradient, *args)
    return _search(objective, state, move, preconditioner), promise


def _conjugate(
    objective: Objective,
    at: Point,
    gradient: np.ndarray,
    monitor: Monitor,
    preconditioner: Preconditioner,
    ridge: float,
    settled: float,
) -> tuple[np.ndarray, float]:
    """The move of conjugate gradients, and what part of the residual it leaves."""
    shared = ridge, monitor, preconditioner, None, settled
    rng, before = preconditioner.rng, len(monitor.history)
    bent = bending(objective, at, preconditioner)
    if bent is not None:
        H, inverse = bent[0], preconditioner(partial(bent[1], ridge, rng))
        move, _, promise = cg_step(H, gradient, inverse, *shared)
        return move, promise
    whole = StreamedHessian(objective, at)
    if objective.data.excerpt is None or not preconditioner.excerpt_helps:
        if is_written(objective, at, preconditioner):
            return streamed_dense_step(objective, at, gradient, ridge), 0.0
        build = partial(streamed_inverse, objective, at, ridge, rng)
        inverse = preconditioner(build)
        move, _, promise = cg_step(whole, gradient, inverse, *shared)
        return move, promise
    inverse = inverse_of_excerpt(objective, at, ridge, monitor, preconditioner)
    move, _, promise = cg_step(whole, gradient, inverse, *shared, EXCERPT_STEPS)
    taken = len(monitor.history) - before
    if taken > PASSES * -np.log10(np.clip(promise, 1e-300, 1.0)):
        preconditioner.excerpt_helps, preconditioner.stale = False, True
    return move, promise


def is_written(objective: Objective, at: Point, preconditioner: Preconditioner) -> bool:
    """Whether so few margins bend that conjugate gradients would take longer than a
    Hessian written out. A pass."""
    (d1, k), loss = objective.shape, objective.loss
    if not isinstance(loss, Margin) or d1 * k > WRITTEN:
        return False
    added = ADDED * objective.data.n_tasks * (d1 * k) ** 2
    each = product_cost(objective) * (len(loss.past) + 1)
    each += 0.0 if objective.data.mapped else ROUND_TRIP
    tried = preconditioner.expected(objective) / product_cost(objective) * each
    if added + written_cost(objective, 0) >= tried:
        return False
    return added + written_cost(objective, objective.data.total(bends, at)) < tried


def bends(data: Data, at: Point) -> float:
    """How many margins have curvature."""
    count = 0.0
    for block, loss, (scores,) in visits(data, at):
        assert isinstance(loss, Margin)
        slope = loss.slope(scores, block.y) * block.weights[:, None]
        count += np.count_nonzero(slope)
    return count


def bending(
    objective: Objective, at: Point, preconditioner: Preconditioner
) -> tuple[Hessian, Build] | None:
    """The Hessian of a hinge from a copy of the rows that it bends at, if they are few.

    Of a file's: those of other machines stay where they are.
    """
    data, loss, parts, size = objective.data, objective.loss, [], 0
    if not (data.mapped and isinstance(loss, Hinge)):
        return None
    if loss.width >= preconditioner.unbent:
        return None
    for block, own, (scores,) in visits(data, at):
        bends = own.diagonal(scores, block.y).any(axis=1) & (block.weights > 0)
        rows = block.X[bends].astype(data.X.dtype)
        parts.append((rows, block.y[bends], block.weights[bends]))
        size += rows.nbytes
        if size > BENT:
            preconditioner.unbent = loss.width
            return None
    X, y, weights = map(np.concatenate, zip(*parts, strict=True))
    few = Data(X, y, weights, data.n_classes, data.dtype, data.tally)
    return kept(objective.replace(data=few), at) if len(y) else None


def kept(objective: Objective, at: Point) -> tuple[Hessian, Build]:
    """The Hessian of rows in memory, and what makes the inverse of its blocks."""
    data = objective.data
    diagonal = np.empty((data.shape[0], data.n_classes), data.dtype, "F")
    products = []
    for block, loss, (scores,) in visits(data, at):
        products.append(loss.hessian(scores, block.y, block.weights))
        part = loss.diagonal(scores, block.y)
        np.multiply(part, block.weights[:, None], out=diagonal[block.rows])
    return Hessian(objective, products), partial(inverse_of_blocks, objective, diagonal)


def inverse_of_excerpt(
    objective: Objective,
    at: Point,
    ridge: float,
    monitor: Monitor,
    preconditioner: Preconditioner,
) -> Precondition:
    """The inverse of the Hessian of an excerpt of the rows: no pass over the others."""
    H, build = kept(objective.replace(data=objective.data.excerpt), at)
    blocks = preconditioner(partial(build, ridge, preconditioner.rng))

    def apply(r: np.ndarray) -> np.ndarray:
        return cg_step(H, -r, blocks, ridge, monitor, preconditioner, INNER, 0.0)[0]

    return apply


def _search(
    objective: Objective,
    state: Iterate,
    move: np.ndarray,
    preconditioner: Preconditioner,
) -> Iterate | None:
    """The point where the slope along the move has almost vanished, if any is lower."""
    start = float(np.vdot(state.at.gradient, move))
    if not start < 0:
        return None
    highest = state.at.value * (1 + 500 * np.finfo(objective.data.dtype).eps)
    there = visit(objective, state.params + move)
    slope = float(np.vdot(there.at.gradient, move))
    if there.at.value <= highest and slope <= 0.1 * -start:
        preconditioner.took(1.0)
        return there
    length = _length(objective, state, move, start, slope, highest)
    preconditioner.took(length)
    return visit(objective, state.params + length * move) if length else None


def _length(
    objective: Objective,
    state: Iterate,
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
