"""Dual coordinate descent: one row's dual variables at a time, solved exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np

from sklinear._data import Data
from sklinear._duality import relative_gap
from sklinear._losses import CrossEntropy, Hinge, Loss
from sklinear._objective import Objective
from sklinear._solvers import _lbfgs, _newton
from sklinear._solvers._auto import (
    EVEN,
    evenness,
    goes_on_by_newton,
    is_doubtful,
    is_newtons,
    variances_of,
)
from sklinear._solvers._costs import is_dense, is_polished
from sklinear._solvers._dual_ascent import Ascent
from sklinear._solvers._dual_descent import LATE, Descent
from sklinear._solvers._frame import Start, certify, concluded, offer_priors
from sklinear._solvers._rows import RowSpace
from sklinear._solvers._solution import Monitor, Options, Solution
from sklinear._variables import LARGEST_FACTOR, Variables, choose_variables

NARROW = 3  # features a row from which epochs pay in the space of the rows
EPOCHS = 30  # of descent before a cheap Newton step is tried
# Where Newton is apt too: the largest gap at which auto stays, from an epoch on, of the
# rows that were worked on. That of all rows tells little: it may be 1 to the last.
TRIAL_SQUARE = {6: 0.43, 11: 0.6, 16: 0.42, 21: 0.35, 27: 0.3}
TRIAL_HINGE = {6: 0.6, 11: 0.46, 16: 0.42, 21: 0.4, 27: 0.36}


@contextmanager
def interruptible() -> Iterator[None]:
    """An interrupt as compiled code returns is one still, and no SystemError."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


@interruptible()
def dual(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: Start,
    options: Options,
) -> Solution:
    """Maximise the dual by block coordinate ascent until the gap is at most ``tol``.

    Rows are visited in random order, in most epochs those only that were far from their
    optimum, of the hinges with the classes only that have multipliers; each's k dual
    variables are solved exactly (Keerthi et al. 2008; Wang and Scott 2021) while
    W = -X' U / (2 alpha) follows; those of equal rows of several labels are moved
    together, too, as far as leaves W as it is, and those of the few rows that hold most
    of the gap by Newton steps, where epochs are slow. The intercept is free: an epoch
    holds it near where it was by a proximal term eps ||b - b_ref||^2, and b_ref follows
    (the method of multipliers, Hestenes 1969, Powell 1969). After
    many epochs W is held near an anchor that follows too (Lin et al. 2015). What is
    so small that dense Newton steps are cheap ends as in ``lbfgs``, at rounding; and so
    does, after many epochs, what dense Newton steps are for at all, what epochs lead
    nowhere with, and what those left will not do for: these where params are not too
    many for Newton. For alpha = 0 there is no dual, and it is ``lbfgs``. The softmax of
    dense rows and many params goes to ``newton`` then, and where its objective is below
    what float64 tells of probabilities near 1. Few dense rows of many features are
    solved in the space that they span, as in ``newton``.
    O(n d k) time an epoch, O((n + d) k) memory.
    """
    check_numba()
    from sklinear._solvers._dual_twins import twins_of

    if alpha == 0:
        easier = _lbfgs.lbfgs(data, loss, alpha, fit_intercept, start, options)
        return replace(easier, solver="lbfgs")
    monitor = Monitor.asked(options, len(data.y))
    variables = _centred(data, fit_intercept)
    objective = Objective(data, loss, alpha, fit_intercept, variables)
    polish = is_polished(objective)
    if polish:
        exact = data.astype(np.float64)
        scaled = choose_variables(exact, alpha, loss.curvature, fit_intercept)
        objective = objective.replace(data=exact, variables=scaled)
    split = objective.split
    monitor.split = lambda params: options.widen(*split(params))
    offer_priors(objective, monitor)
    if polish or start[0].any():
        for point in (objective.join(*start), np.zeros(objective.shape)):
            certify(objective, point, monitor)
    if (found := options.found) is not None:  # not to begin at, but to go back to
        monitor.history, monitor.guess = found.history, found.value
        monitor.guessed = objective.join(found.coef, found.intercept)
    end = multipliers = None
    if not monitor.done:
        last, centred = options.multipliers, objective.replace(variables=variables)
        twins = twins_of(data) if last is None else last.twins
        ascent = Ascent(data, centred, start, twins, last)
        epochs = EPOCHS if polish else options.max_iter
        apt, trial = goes_on_by_newton(data, loss), {}
        softmax = isinstance(loss, CrossEntropy)
        if options.on_trial and is_doubtful(data, loss, alpha, options.tol):
            trial = _trial(loss)
        n, d = data.shape
        wide = NARROW * n <= d and n <= LARGEST_FACTOR and not (polish or data.sparse)
        lost = wide and _in_row_space(ascent, start, monitor, options, epochs)
        failed = False
        if not (lost or monitor.done or monitor.spent):
            descent = Descent(ascent, objective, monitor, epochs, trial)
            lost, failed = descent.run(options.rng), descent.failed
        if options.fits > 1 and not lost:
            multipliers = ascent.multipliers()._replace(twins=twins)
        if lost and not polish:
            apt |= softmax and not (data.sparse or is_dense(objective))
            apt |= failed and is_newtons(data)
            W, b, primal, bound = ascent.certified()
            if np.isfinite(primal) and not (failed or (apt and softmax)):
                # for Newton's method, that of a hinge where 0 is no better a start
                params, witness = objective.join(W, b), ascent.witness()
                monitor.offer(params, primal, bound, witness, keep=True)
            over = monitor.done or monitor.spent
            # features of very different variances are better scaled than rotated
            if wide and not over and evenness(variances_of(data)) >= EVEN:
                return _go_on_in_row_space(objective, monitor, options, apt)
            objective = _go_on(objective, monitor, apt)
            end = None if not failed else "newton" if apt else "lbfgs"
    if polish and not monitor.spent:
        _lbfgs.finish(objective, monitor)
    from sklinear._solvers._dual_proof import visited_compiled

    if found is not None:
        monitor.offer(objective.join(found.coef, found.intercept), found.value)
    solution = concluded(objective, monitor, "iterations" if end else "epochs")
    visitor = visited_compiled if data.sparse else None
    return replace(solution, visitor=visitor, solver=end, multipliers=multipliers)


@interruptible()
def is_quick(
    data: Data, loss: Loss, alpha: float, fit_intercept: bool, options: Options
) -> bool:
    """Whether a hinge's first epochs over dense rows lead to where auto stays."""
    from sklinear._solvers._dual_twins import twins_of

    variables = _centred(data, fit_intercept)
    objective = Objective(data, loss, alpha, fit_intercept, variables)
    monitor = Monitor.asked(options._replace(max_iter=LATE), len(data.y))
    offer_priors(objective, monitor)
    start = objective.split(np.zeros(objective.shape))
    ascent = Ascent(data, objective, start, twins_of(data))
    descent = Descent(ascent, objective, monitor, LATE, _trial(loss))
    return not descent.run(deepcopy(options.rng))


def _centred(data: Data, fit_intercept: bool) -> Variables:
    """Features less their means, if there is an intercept to make up for it."""
    mean = np.zeros(data.X.shape[1])
    if fit_intercept:
        for block in data:
            mean += block.X.T @ block.weights
    return Variables(mean, np.ones_like(mean))


def _trial(loss: Loss) -> dict[int, float]:
    """The largest gaps at which auto stays."""
    return TRIAL_HINGE if isinstance(loss, Hinge) else TRIAL_SQUARE


def _in_row_space(
    ascent: Ascent,
    start: Start,
    monitor: Monitor,
    options: Options,
    epochs: int,
) -> bool:
    """The epochs in the space of the rows, where each reads fewer numbers; whether they
    lead nowhere. The dual variables are the same: what is proven is proven of the rows.
    """
    data, objective = ascent.data, ascent.objective
    space = RowSpace.of(data, objective.fit_intercept)
    rotated = space.data
    if not rotated.X.shape[1]:
        return False
    mean = rotated.X.T @ rotated.weights * objective.fit_intercept  # 0 but for rounding
    variables = Variables(mean, np.ones_like(mean))
    inside = objective.replace(data=rotated, variables=variables)
    own = Monitor.asked(options, len(data.y))
    own.history = monitor.history
    own.split = lambda params: options.widen(*space.widen(*inside.split(params)))
    offer_priors(inside, own)
    own_start, last = space.narrow(*start), options.multipliers
    narrow = Ascent(rotated, inside, own_start, ascent.twins, last)
    lost = Descent(narrow, inside, own, epochs, {}).run(options.rng)
    monitor.pending = own.pending
    if own.guess < monitor.guess:
        monitor.guess, monitor.guessed = own.guess, None
        if own.guessed is not None:
            W, b = space.widen(*inside.split(own.guessed))
            monitor.guessed = objective.join(W, b)
    ascent.take(narrow)
    if lost:  # what is to become of its end is for the caller to say
        if narrow.proven is not None:  # the last bound is likely to be the best
            ascent.state.A[:] = narrow.proven
            ascent.rebuild()
        assert own.params is not None
        found = objective.join(*space.widen(*inside.split(own.params)))
        monitor.offer(found, own.primal)
        return True
    W, b, primal, dual = ascent.certified()
    monitor.offer(objective.join(W, b), primal, dual, ascent.witness(), keep=True)
    return False


def _go_on(objective: Objective, monitor: Monitor, apt: bool) -> Objective:
    """By Newton's method where ``apt``, or L-BFGS; in the variables that are theirs."""
    data, loss, alpha = objective.data, objective.loss, objective.alpha
    variables = _newton.variables if apt else _lbfgs.variables
    own = variables(data, loss, alpha, objective.fit_intercept)
    scaled, split = objective.replace(variables=own), monitor.split
    assert monitor.params is not None
    assert split is not None
    monitor.split = lambda params: split(objective.join(*scaled.split(params)))
    monitor.params = scaled.join(*objective.split(monitor.params))
    if monitor.guessed is not None:
        monitor.guessed = scaled.join(*objective.split(monitor.guessed))
    if apt:
        _newton.solve(scaled, monitor)
    elif not monitor.spent:
        _lbfgs.finish(scaled, monitor)
    return scaled


def _go_on_in_row_space(
    objective: Objective, monitor: Monitor, options: Options, apt: bool
) -> Solution:
    """What they find from here in the space of the rows, if that pays."""
    assert monitor.params is not None
    start = objective.split(monitor.params)
    left = options._replace(history=tuple(monitor.history))
    shared = objective.data, objective.loss, objective.alpha, objective.fit_intercept
    solver = _newton.newton if apt else _lbfgs.lbfgs
    found = solver(*shared, start, left)
    history = np.minimum.accumulate(found.history).tolist()
    found = replace(found, history=history, unit="epochs")
    gap = relative_gap(found.value, monitor.dual)  # by what epochs have proven
    if gap >= found.gap:
        return found
    return replace(
        found, gap=gap, converged=gap <= monitor.tol, witness=monitor.witness
    )


def check_numba() -> None:
    """Compiled loops need it."""
    from sklinear._solvers import _dual_blocks

    if _dual_blocks.numba is None:
        raise ImportError(f"solver='dual' needs numba, {_dual_blocks.missing}.")
