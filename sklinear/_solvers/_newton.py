"""Newton's method, for all losses and sizes.

Semismooth on the hinges (Qi and Sun 1993): the generalised Hessian keeps the violated
margins. The hinge itself is the limit of a method of multipliers (Rockafellar 1976):
its smooth steps are centred at the last multipliers, so that the limit is the hinge's
own optimum while the widths stay far from rounding. What Newton cannot solve in a few
steps is solved for ten times alpha first: the active set then changes little.

Large data are solved on a growing sample of rows first, with a stronger penalty the
fewer they are and until rows that it lacks are fitted no better, and in the data's own
precision before float64 has the last word.
"""

from __future__ import annotations

import numpy as np

from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._objective import Objective
from sklinear._solvers._costs import is_dense, is_polished
from sklinear._solvers._descent import ROUGHLY, descend
from sklinear._solvers._frame import Start, certify, framed, smoothed
from sklinear._solvers._preconditioner import Preconditioner
from sklinear._solvers._solution import Monitor, Options, Solution
from sklinear._variables import Variables, choose_variables

LARGEST_DENSE = 800  # params up to which variables get a factor of their own
PATIENCE = 15  # Newton steps at one alpha and width before a larger alpha is asked
FIRST_SHARE = 0.2  # of the rows, in the first Hessians of large data
LARGE = 2**22  # numbers in X from which on first Hessians are rough
FEWEST_ROWS = 1024  # to centre and scale by
COPIED = 0.6  # bytes for each value of X, in a sample of its rows
GROWTH = 4  # of the sample of rows, from one stage to the next
UNSEEN, PART = 1024, 8  # rows beside a sample, at most, and at most such a part of all
DRAFT_TOL = 0.9  # of the gap that is asked for: in float32, which may be off by 1e-6
DRAFT = 1e-2  # gap to which a sample is solved


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
        _, end, _ = descend(
            single, params, draft, False, 2 * PATIENCE, preconditioner, share
        )
        assert draft.params is not None
        params, rounded = draft.params, rounded.replace(loss=end.loss)
    exact = rounded.replace(data=data.astype(np.float64))
    refine(exact, params, monitor, preconditioner=preconditioner)
    seen = monitor.guessed
    if monitor.spent and seen is not None and monitor.guess < monitor.primal:
        certify(objective, seen, monitor)


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
    few = min(UNSEEN, len(order) // PART)
    for count in (least, min(GROWTH * least, most, len(order) - few)):
        if count >= max(4 * d1, k):
            alpha = objective.alpha * np.sqrt(n / count)
            some = objective.replace(data=_of_rows(data, order[:count]), alpha=alpha)
            others = _of_rows(data, order[count : count + few])
            unseen = _Unseen(objective, others, monitor, params)
            draft = monitor.detour(DRAFT)
            descend(some, params, draft, False, PATIENCE, preconditioner, 1.0, unseen)
            params = unseen.best
            del some, draft  # or the next sample lies beside this one
            objective = smoothed(objective)
    return params


class _Unseen:
    """Rows that a sample lacks: they tell when it is fitted better than they are."""

    def __init__(
        self, objective: Objective, data: Data, monitor: Monitor, params: np.ndarray
    ):
        self.objective, self.others = objective, objective.replace(data=data)
        self.monitor, self.best = monitor, params
        self.least, self.worse = np.inf, 0

    def __call__(self, params: np.ndarray) -> bool:
        """Whether steps lead no further: twice the point was no better for these."""
        value = self.others.evaluate(params).primal
        if value >= self.least:
            self.worse += 1
            return self.worse > 1
        self.best, self.least, self.worse = params.copy(), value, 0
        if self.monitor.report.listens and not self.objective.data.streamed:
            self.monitor.suggest(self.best, self.objective.evaluate(params).primal)
        return False


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

    Gives the last point, which of a rounded hinge need not be the best that was met. In
    float64, so that what is offered to the monitor is proven; rows of which nothing is
    kept take part by ``_streaming``.
    """
    polish = monitor.gap > monitor.polish and is_polished(objective)
    if monitor.done and not polish:
        return params
    if preconditioner is None:
        preconditioner = Preconditioner(np.random.RandomState(0))
    patience = PATIENCE if objective.alpha > 0 and detours else np.inf
    share = _first_share(objective)
    finished, _, end = descend(
        objective, params, monitor, polish, patience, preconditioner, share
    )
    if finished:
        return end
    detour = monitor.detour(max(monitor.tol, ROUGHLY))
    easier = smoothed(objective.replace(alpha=10 * objective.alpha), params)
    end = refine(easier, params, detour, detours - 1, preconditioner)
    objective = smoothed(objective)
    return descend(objective, end, monitor, polish, np.inf, preconditioner, share)[2]


def _first_share(objective: Objective) -> float:
    """Of the rows that the first Hessians are taken from."""
    n, d = objective.data.shape
    return FIRST_SHARE if n * d > LARGE else 1.0
