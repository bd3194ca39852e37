"""What every deterministic solver does around its own steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sklinear._data import Data
from sklinear._duality import dual_value, relative_gap
from sklinear._losses import Hinge, Loss
from sklinear._objective import Evaluation, Objective, bend_intercept
from sklinear._solvers._rows import RowSpace
from sklinear._solvers._solution import Monitor, Options, Solution, Witness
from sklinear._variables import LARGEST_FACTOR, Variables

LARGE = 2**22  # numbers in X from which on no pass is taken that is not asked for
SPLIT = 1e-9  # relative curvature of the intercept that counts as none
KINK = 1e-8  # of a margin, which is at its kink then
NOISE = 1e-9  # of a feature, in sums over the rows, and what solvers stop at
SAME = 8 * float(np.finfo(float).eps)  # relative descent that rounding makes, too
FIRST_WIDTH, WIDTH = 2.0, 0.5  # of a hinge's rounding in units of delta
Start = tuple[np.ndarray, np.ndarray]  # W (d, k) and b (k,)


def framed(
    solve: Callable[[Objective, Monitor], None],
    variables: Callable[[Data, Loss, float, bool], Variables],
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: Start,
    options: Options,
) -> Solution:
    """Solve, from the better of ``start`` and 0, in the space of the rows if smaller.

    ``solve`` improves the monitor's point until the monitor is done or spent.
    """
    monitor = Monitor.asked(options, data.shape[0])
    found: Solution | None = None
    n, d = data.shape
    if n < d and n <= LARGEST_FACTOR and not data.streamed:
        space = RowSpace.of(data, fit_intercept)
        if space.data.X.shape[1]:
            shared = solve, variables, space.data, loss, alpha, fit_intercept
            inside = options._replace(widen=space.widen)
            found = framed(*shared, space.narrow(*start), inside)
            start = space.widen(found.coef, found.intercept)
            monitor.history = found.history
    scaled = variables(data, loss, alpha, fit_intercept)
    objective = Objective(data, loss, alpha, fit_intercept, scaled)
    monitor.split = lambda params: options.widen(*objective.split(params))
    point = objective.join(*start)
    if point.any():
        certify(objective, point, monitor)
    offer_priors(objective, monitor)
    if found is not None and found.witness is not None:
        dual = _transferred(objective, found.witness)
        if dual > monitor.dual:
            monitor.dual, monitor.witness = dual, found.witness
    # without a penalty the softmax goes on to infinity, and with it what rounding
    # leaves outside that space
    endless = alpha == 0 and not loss.reaches_zero
    if not (monitor.done or monitor.spent or (endless and found is not None)):
        solve(objective, monitor)
    return concluded(objective, monitor, "iterations")


def concluded(objective: Objective, monitor: Monitor, unit: str) -> Solution:
    """The facts about the monitor's best point."""
    assert monitor.params is not None
    if _is_rounding(objective, monitor):
        monitor.params[:-1] = 0
    coef, intercept = objective.split(monitor.params)
    # an iteration is counted before its end is evaluated, and there may be none; values
    # before may be the float32 ones of points that were only guessed
    primal = monitor.primal
    history = [*(max(value, primal) for value in monitor.history[:-1]), primal]
    underflow = monitor.primal == 0 and not objective.loss.reaches_zero
    gap = 1.0 if underflow else monitor.gap
    return Solution(
        coef,
        intercept,
        monitor.primal,
        gap,
        gap <= monitor.tol,
        unit,
        history,
        monitor.witness,
    )


def _is_rounding(objective: Objective, monitor: Monitor) -> bool:
    """Whether W = 0 is the hinge's optimum itself, and W what rounding leaves beside.

    Under a strong penalty, where classes differ in size so that margins are at their
    kinks. It would put rows in an order though all their scores are equal. W is of the
    size of 1 / (2 alpha) times the features where it is more than the rounding of such
    sums. A pass over X, if the objective does not tell.
    """
    loss, masses, params = objective.loss, objective.data.class_masses, monitor.params
    assert params is not None
    if not (isinstance(loss, Hinge) and objective.fit_intercept):
        return False
    margins = params[-1][masses > 0][:, None] - params[-1]
    if (np.abs(margins - loss.delta) > KINK * loss.delta).all():
        return False
    value = value_without_features(objective, params)
    if value < monitor.primal * (1 - SAME):  # what is better by itself
        monitor.primal = value
        return True
    if value > monitor.primal * (1 + SAME):
        return False
    W = np.abs(objective.split(params)[0]).max(axis=1)
    sizes = objective.data.astype(np.float64).total(_sizes)
    return bool((2 * objective.alpha * W <= NOISE * sizes).all())


def _sizes(data: Data) -> np.ndarray:
    """Mean absolute values (d,) of the features."""
    found = np.zeros(data.shape[1])
    for block in data:
        found += abs(block.X).T @ block.weights
    return found


def certify(objective: Objective, params: np.ndarray, monitor: Monitor) -> None:
    """Offer a point with its objective and the lower bound it gives, in float64.

    Where only the intercept keeps that from being enough, it is moved.
    """
    exact = objective.replace(data=objective.data.astype(np.float64))
    at = exact.evaluate(params, conjugate=True)
    monitor.offer(params, at.primal, dual_value(exact, at))
    if is_unbalanced(exact, params, at, monitor):
        H = exact.data.total(bend_intercept, exact.at(params))
        params = settled(params, at.residual, H)
        at = exact.evaluate(params, conjugate=True)
        monitor.offer(params, at.primal, dual_value(exact, at))


def is_unbalanced(
    objective: Objective, params: np.ndarray, at: Evaluation, monitor: Monitor
) -> bool:
    """Whether a point would be near enough if 1' U were 0.

    To make it so costs the lower bound in proportion to 1' U, and the objective far
    less: in proportion to its square. Where a step more takes little time it is taken,
    for what it gains beyond what is asked.
    """
    data, loss = objective.data, objective.loss
    if monitor.done or data.streamed or not objective.fit_intercept:
        return False
    if isinstance(loss, Hinge) and not loss.width:  # nothing bends
        return False
    if (data.X.nnz if data.sparse else data.X.size) < LARGE:
        return False
    # what P - D would be if the same U had 1' U = 0: no bound, but a good guess
    dual = dual_value(objective, at, balance=False) + float(at.residual @ params[-1])
    return relative_gap(at.primal, dual) <= monitor.tol


def settled(params: np.ndarray, residual: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Params whose intercept takes a Newton step of its own: 1' U nearly vanishes."""
    params = params.copy()
    params[-1] -= np.linalg.lstsq(H, residual, rcond=SPLIT)[0]
    return params


def smoothed(objective: Objective, params: np.ndarray | None = None) -> Objective:
    """The hinge rounded over a part of its margin; the other losses as they are.

    At W = 0, if these are the params, all margins are delta and the width reaches them.
    """
    loss = objective.loss
    if not isinstance(loss, Hinge):
        return objective
    width = WIDTH if params is None or params.any() else FIRST_WIDTH
    return objective.replace(loss=Hinge(loss.delta, width=width * loss.delta))


def offer_priors(objective: Objective, monitor: Monitor) -> None:
    """The point where W = 0 and the intercept is the priors'."""
    params = from_priors(objective)
    monitor.offer(params, value_without_features(objective, params))


def value_without_features(objective: Objective, params: np.ndarray) -> float:
    """The objective where W = 0: X need not be read."""
    masses = objective.data.class_masses
    intercept = params[-1] if objective.fit_intercept else np.zeros(len(masses))
    scores = np.tile(intercept, (len(masses), 1))  # of a row of each class
    values, _ = objective.loss(scores, np.arange(len(masses)))
    return float(values @ masses)


def from_priors(objective: Objective) -> np.ndarray:
    """Params with W = 0 and the intercept that the classes' masses suggest."""
    params = np.zeros(objective.shape)
    if objective.fit_intercept:
        params[-1] = objective.loss.prior(objective.data.class_masses)
    return params


def _transferred(objective: Objective, witness: Witness) -> float:
    """The lower bound that a dual point of the rotated rows gives for the rows."""
    exact = objective.replace(data=objective.data.astype(np.float64))
    U = witness.point
    assert isinstance(U, np.ndarray)
    assert witness.at is not None
    pulled, _ = exact.pull([U[block.rows] for block in exact.data])
    return dual_value(exact, witness.at._replace(pulled=pulled))
