"""L-BFGS of scipy for the way, Newton steps for the end."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from sklinear._data import Data
from sklinear._duality import dual_value
from sklinear._losses import Hinge, Loss
from sklinear._objective import Evaluation, Objective
from sklinear._solvers._newton import LARGEST_DENSE, newton
from sklinear._solvers._rows import RowSpace
from sklinear._solvers._solution import Monitor, Options, Solution, Witness
from sklinear._variables import LARGEST_FACTOR, choose_variables

WINDOW = 10  # iterations over which progress is judged
SLOW = 1e-2  # relative decrease in them below which Newton's method takes over
SLOW_DENSE = 1.0  # the same where a Newton step is one dense solve
LONGEST_DENSE = 18  # iterations of L-BFGS after which it is taken there anyhow
CHEAP = 5e7  # operations of a Newton step up to which fits are polished to rounding


def lbfgs(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: tuple[np.ndarray, np.ndarray],
    options: Options,
) -> Solution:
    """Minimise until the duality gap is at most ``tol`` of the objective.

    Limited-memory BFGS (Liu and Nocedal 1989) in well-scaled variables as long as it
    makes quick progress, then Newton steps. The hinge, which is not smooth, is rounded
    over its margin at first. O(n d k) time an iteration, O((n + d) k) memory.
    """
    monitor = Monitor(options.tol, options.max_iter, options.verbose)
    found: Solution | None = None
    n, d = data.X.shape
    if n < d and n <= LARGEST_FACTOR:
        space = RowSpace.of(data, fit_intercept)
        if space.data.X.shape[1]:
            narrow = space.narrow(*start)
            found = lbfgs(space.data, loss, alpha, fit_intercept, narrow, options)
            start = space.widen(found.coef, found.intercept)
            monitor.history = found.history
    variables = choose_variables(data, alpha, loss.curvature, fit_intercept)
    objective = Objective(data, loss, alpha, fit_intercept, variables)
    for point in (objective.join(*start), np.zeros(objective.shape)):
        at = objective.evaluate(point, conjugate=True)
        monitor.offer(point, at.primal, dual_value(objective, at))
    if found is not None and found.witness is not None:
        monitor.dual = max(monitor.dual, _transferred(objective, found.witness))
    assert monitor.params is not None
    if not (monitor.done or monitor.spent):
        _solve(objective, monitor)
    coef, intercept = objective.split(monitor.params)
    # an iteration is counted before its end is evaluated, and there may be none
    history = [*monitor.history[:-1], monitor.primal]
    underflow = monitor.primal == 0 and not loss.reaches_zero
    gap = 1.0 if underflow else monitor.gap
    return Solution(
        coef,
        intercept,
        monitor.primal,
        gap,
        gap <= options.tol,
        f"after {len(history)} iterations",
        history,
        monitor.witness,
    )


def _transferred(objective: Objective, witness: Witness) -> float:
    """The lower bound that a dual point of the rotated rows gives for the rows."""
    U = np.vstack(witness.U)
    pulled, _ = objective.pull([U[block.rows] for block in objective.data])
    return dual_value(objective, witness.at._replace(pulled=pulled))


def _solve(objective: Objective, monitor: Monitor) -> None:
    """L-BFGS from the monitor's point, and Newton's method from where that ends."""
    params, loss = monitor.params, objective.loss
    assert params is not None
    if isinstance(loss, Hinge):
        rounded = objective.replace(loss=Hinge(loss.delta, width=loss.delta))
        _approach(rounded, params, monitor)
    else:
        _approach(objective, params, monitor)
    (d, k), n = objective.shape, len(objective.data.y)
    polish = n * (d * k) ** 2 + (d * k) ** 3 <= CHEAP
    if not monitor.spent and (polish or not monitor.done):
        assert monitor.params is not None
        exact = objective.replace(data=objective.data.astype(np.float64))
        newton(exact, monitor.params, monitor, exact=polish)


def _approach(objective: Objective, params: np.ndarray, monitor: Monitor) -> None:
    """L-BFGS until it is done or slow."""
    alpha, shape = objective.alpha, objective.shape
    last: tuple[np.ndarray, Evaluation]
    values: list[float] = []
    dense = params.size <= LARGEST_DENSE
    least = SLOW_DENSE if dense else SLOW

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        at = objective.evaluate(x.reshape(shape))
        last = x.copy(), at
        return at.value, at.gradient.ravel()

    def callback(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        x = intermediate_result.x
        if not (x == last[0]).all():
            value_and_gradient(x)
        params, at = x.reshape(shape), last[1]
        values.append(at.value)
        slack = at.pulled + 2 * alpha * at.coef
        dual = 0.0
        if float(np.vdot(slack, slack)) < 2 * alpha * monitor.tol * at.primal:
            # with an exact intercept the gap is half of what is asked
            dual = dual_value(objective, objective.evaluate(params, conjugate=True))
        monitor.offer(params, at.primal, dual)
        monitor.count()
        slow = len(values) > WINDOW and values[-WINDOW] - at.value < least * at.value
        long = dense and len(values) >= LONGEST_DENSE
        if monitor.done or monitor.spent or slow or long:
            raise StopIteration

    scipy.optimize.minimize(
        value_and_gradient,
        params.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        # our own measure decides, neither scipy's tolerances nor its counts
        options={"ftol": 0, "gtol": 0, "maxiter": 10**9, "maxfun": 10**9, "maxls": 50},
    )
