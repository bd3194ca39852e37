"""L-BFGS of scipy for the way, Newton steps for the end."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from sklinear._data import Data
from sklinear._losses import Hinge, Loss
from sklinear._objective import Evaluation, Objective
from sklinear._solvers._costs import is_dense
from sklinear._solvers._frame import Start, certify, framed, smoothed
from sklinear._solvers._newton import refine
from sklinear._solvers._solution import Monitor, Options, Solution
from sklinear._variables import Variables, choose_variables

WINDOW = 10  # iterations over which progress is judged
SLOW = 1e-2  # relative decrease in them below which Newton's method takes over
SLOW_TALL = 0.05  # the same of many rows a feature
SLOW_STREAMED = 0.2  # the same where each takes a pass over rows that are elsewhere
SLOW_DENSE = 1.0  # the same where a Newton step is one dense solve
TALL = 8  # rows a feature
LONG = 100  # iterations of L-BFGS after which the half of max_iter suffices
LONGEST_DENSE = 18  # iterations of L-BFGS after which it is taken there anyhow


def lbfgs(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: Start,
    options: Options,
) -> Solution:
    """Minimise until the duality gap is at most ``tol`` of the objective.

    Limited-memory BFGS (Liu and Nocedal 1989) in well-scaled variables as long as it
    makes quick progress, then Newton steps. The hinge, which is not smooth, is rounded
    over its margin at first. O(n d k) time an iteration, O((n + d) k) memory.
    """
    return framed(finish, variables, data, loss, alpha, fit_intercept, start, options)


def variables(data: Data, loss: Loss, alpha: float, fit_intercept: bool) -> Variables:
    """Those in which the curvature is nearly round."""
    return choose_variables(data.excerpt or data, alpha, loss.curvature, fit_intercept)


def finish(objective: Objective, monitor: Monitor) -> None:
    """L-BFGS from the monitor's point, and Newton's method from where that ends."""
    loss, rounded = objective.loss, objective
    if isinstance(loss, Hinge):
        rounded = objective.replace(loss=Hinge(loss.delta, width=loss.delta))
    approach(rounded, monitor)
    if not monitor.spent:
        assert monitor.params is not None
        exact = objective.replace(data=objective.data.astype(np.float64))
        refine(smoothed(exact), monitor.params, monitor)


def approach(objective: Objective, monitor: Monitor, patient: bool = False) -> None:
    """L-BFGS from the monitor's point until it is done or, if not ``patient``, slow."""
    alpha, shape, start = objective.alpha, objective.shape, monitor.params
    assert start is not None
    # scipy wants the gradient of, and calls back at, the point it evaluated last
    last: tuple[np.ndarray, Evaluation]
    values: list[float] = []
    draft = monitor.detour(monitor.tol, drafting=True)
    dense = is_dense(objective)
    n, d = objective.data.shape
    if dense:
        least = SLOW_DENSE
    elif objective.data.streamed:
        least = SLOW_STREAMED
    else:
        least = SLOW_TALL if n >= TALL * d else SLOW

    def value(x: np.ndarray) -> float:
        nonlocal last
        params = x.reshape(shape)
        last = params, objective.evaluate(params)
        return last[1].value

    def gradient(x: np.ndarray) -> np.ndarray:
        return last[1].gradient.ravel()

    # the argument's name has scipy pass its result, not a copy of the point
    def callback(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        params, at = last
        values.append(at.value)
        draft.offer(params, at.primal)
        if float(np.vdot(at.slack, at.slack)) < 2 * alpha * monitor.tol * at.primal:
            # with an exact intercept the gap is half of what is asked
            certify(objective, params, monitor)
        monitor.count()
        stuck = len(values) > WINDOW and values[-WINDOW] - at.value < least * at.value
        long = dense and len(values) >= LONGEST_DENSE
        long |= len(values) >= max(monitor.max_iter / 2, LONG)
        if monitor.done or monitor.spent or ((stuck or long) and not patient):
            raise StopIteration

    scipy.optimize.minimize(
        value,
        start.ravel(),
        jac=gradient,
        method="L-BFGS-B",
        callback=callback,
        # our own measure decides, neither scipy's tolerances nor its counts
        options={"ftol": 0, "gtol": 0, "maxiter": 10**9, "maxfun": 10**9, "maxls": 50},
    )
    lower = monitor.least > 0 and draft.primal < monitor.primal
    if draft.params is not None and (lower or not monitor.done):
        certify(objective, draft.params, monitor)
