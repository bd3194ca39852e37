"""Mini-batch stochastic gradient descent, in the metric of the data's curvature.

An epoch's end is not taken as it is: the noise of its batches, and the steps that were
too short for flat directions, show in the scores of all rows, from which the best point
of the span of the last moves and of a few whole gradients is found (``_span``). The
hinge, which has kinks, is rounded around the multipliers of the epoch before, in the
manner of the method of multipliers (Rockafellar 1976), so that its own optimum is
approached while the rounding stays wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import row_norms

from sklinear._checks import size
from sklinear._data import Data
from sklinear._losses import Hinge, Loss
from sklinear._objective import features, scores_of
from sklinear._solvers._solution import Options, Progress, Solution, as_they_are
from sklinear._solvers._span import Span, forward
from sklinear._variables import LARGEST_SPARSE_FACTOR, choose_variables

FEW_COLUMNS = 10  # an entry of sparse rows
FEWEST_STEPS = 100  # of an epoch: batches shrink (to SMALLEST_BATCH) to allow them
SMALLEST_BATCH = 16
LONGEST_MOVE = 1.0  # of a score in one step, in units of delta
LARGEST_OF_FLOAT32 = 1e-6, 1e6  # value of rows whose squares it holds well
SAMPLE = 4096  # rows that the curvature is estimated from, at least
SEARCHES = 3, 12  # of a span at an epoch's end, at least and at most
CHEAP_SEARCHES = 1.5e7  # products with X that all of them may cost beyond the least
OVERSHOT = 1.01  # the best objective, from which on an epoch's steps were too long
NEGLIGIBLE = 1e-100  # objective from which on squares of its gradient would vanish
PATIENCE = 5  # epochs without progress, each at half the rate, before the end
# Steps may be so long that numbers overflow: their ends are refused.
FINITE_IN_THE_END = np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True)
class Metric:
    """Steps are ``-rate * matrix @ gradient`` in centred features."""

    mean: np.ndarray | None  # (d,), None: not centred, and the matrix is a number
    matrix: np.ndarray | float  # (d, d), (d,) or a number
    intercept: float  # the same for the intercept; 0 without one
    leverage: float  # typical curvature of one sample in this metric

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        """matrix @ gradient."""
        if isinstance(self.matrix, np.ndarray):
            if self.matrix.ndim == 2:
                return self.matrix @ gradient
            return self.matrix[:, None] * gradient
        return self.matrix * gradient

    def direction(self, gradient: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """A direction for W from whole gradients in W and b, where b is free."""
        if self.mean is not None:
            gradient = gradient - np.outer(self.mean, residual)
        return self(gradient)

    def rate(self, batch: int, usual: Any = 0) -> Any:
        """Step size: 1 for a full gradient, less the more one sample can weigh.

        After the expected smoothness of a batch of m samples, L + L_max / m (Gower et
        al. 2019, Prop. 3.8), where L = 1 in this metric; outliers, which L_max is made
        of, are met by the limit on a step's length instead. Of fewer samples than are
        ``usual`` it is a part of theirs: they tell less of where the others want to go.
        """
        return batch / (np.maximum(batch, usual) + self.leverage)


@FINITE_IN_THE_END
def sgd(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: tuple[np.ndarray, np.ndarray],
    options: Options,
) -> Solution:
    """Epochs of shuffled mini-batches until they no longer pay.

    The rate falls linearly to 0 at ``max_iter`` epochs, and to a half after an epoch
    that does not improve the objective by ``tol``; the best epoch's end is kept, and
    gone back to from one whose steps were far too long. With
    a rate of the user's own an epoch's end is what the batches made it, and a
    ValueError is raised where that is not finite.
    O(n d (k + d)) time an epoch, or O(nnz k) on sparse rows, O((n + d) k + d^2) memory.
    """
    data = in_range_of_float32(data)
    W, b = (part.astype(data.dtype) for part in start)
    counted = np.flatnonzero(data.weights)
    batch = min(options.batch_size, max(SMALLEST_BATCH, len(counted) // FEWEST_STEPS))
    span = Span(data, alpha, fit_intercept, W, b, forward(data, W))
    value, activity = assess(span, smoothed(loss, 1.0))
    best = value, W, b
    history: list[float] = []
    halvings = stalled = 0
    centre: np.ndarray | None = None
    n_searches = searches_for(data) if options.learning_rate == "auto" else 0
    for epoch in range(options.max_iter):
        metric = measure(data, alpha, activity, fit_intercept)
        left = 0.5**halvings * (1 - epoch / options.max_iter)
        rate = first_rate(metric, options, batch)
        smooth = smoothed(loss, left, centre)
        order = options.rng.permutation(counted)
        n_steps = -(-len(order) // batch)
        fall = 0.5**halvings / options.max_iter  # of ``left`` within the epoch
        rates = rate * (left - fall * np.arange(n_steps) / n_steps)
        W, b = run_epoch(
            data, smooth, alpha, span.W, span.b, order, batch, metric, rates
        )
        check_finite(np.vstack([W, b]), options)
        span.go(W, b)
        if n_searches:
            span.descend(smooth, metric.direction, n_searches, options.tol)
            if isinstance(smooth, Hinge):
                centre = smooth.multipliers(span.scores + span.b, data.y)
        value, activity = assess(span, smooth)
        if not n_searches:
            check_finite(np.array(value), options)
        history.append(value)
        at = partial(as_they_are, span.W, span.b)
        options.report(Progress(len(history), value, np.nan, at, "epoch"))
        if n_searches and not value <= OVERSHOT * best[0]:
            halvings += 1
            span.go(*best[1:])
            _, activity = assess(span, smooth)
        else:
            stalled = 0 if value < best[0] * (1 - options.tol) else stalled + 1
            halvings += stalled > 0
        if value < best[0]:
            best = value, span.W, span.b
        if stalled == PATIENCE or options.report.stopped or value < NEGLIGIBLE:
            break
    value, W, b = best
    # without a penalty only one thing tells that nothing is left to gain
    least = value == 0 and loss.reaches_zero
    converged = least or (alpha > 0 and has_stalled(history, options.tol))
    return Solution(W, b, value, np.nan, converged, "epochs", history)


def has_stalled(history: list[float], tol: float) -> bool:
    """Whether the last epochs gained less than ``tol`` each, and end near the best.

    One alone would always seem to, as the rate falls to 0; and where steps are too long
    none is better than the best before. Of few epochs they are half.
    """
    last = min(PATIENCE, len(history) // 2)
    if not last:
        return False
    least = min(history)
    gained = least < min(history[:-last]) * (1 - min(tol, 1.0)) ** last
    return not gained and history[-1] <= OVERSHOT * least


def check_finite(found: np.ndarray, options: Options) -> None:
    """Steps must lead to where numbers are."""
    if not np.isfinite(found).all():
        raise ValueError(
            "mini-batch SGD ended at coefficients that are not finite: X has to be "
            "finite, and learning_rate short enough, got "
            f"learning_rate={options.learning_rate!r}."
        )


def in_range_of_float32(data: Data) -> Data:
    """In float64 where squares of float32 rows would be lost, or their inverses."""
    if data.dtype == np.float64:
        return data
    least, most = LARGEST_OF_FLOAT32
    largest = max(size(block.X) for block in data)
    return data if least <= largest <= most else data.astype(np.float64)


def first_rate(metric: Metric, options: Options, batch: int, usual: Any = 0) -> Any:
    """What the user says, else the metric."""
    if isinstance(options.learning_rate, str):
        return metric.rate(batch, usual)
    return float(options.learning_rate)


def searches_for(data: Data) -> int:
    """Searches of a span at an epoch's end, more where a pass costs little."""
    n, d = data.X.shape
    size = data.X.nnz if data.sparse else n * d
    return int(np.clip(CHEAP_SEARCHES / max(size * data.n_classes, 1), *SEARCHES))


def smoothed(loss: Loss, left: float, centre: np.ndarray | None = None) -> Loss:
    """A hinge rounded over less and less of its margin, around the last multipliers."""
    if not isinstance(loss, Hinge):
        return loss
    return Hinge(loss.delta, width=loss.delta * max(left, 0.02), centre=centre)


def run_epoch(
    data: Data,
    loss: Loss,
    alpha: float,
    W: np.ndarray,
    b: np.ndarray,
    order: np.ndarray,
    batch: int,
    metric: Metric,
    rates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One step a batch of ``order``. Sparse batches touch the columns they have.

    There the penalty's shrinking is kept apart as one number, W = shrunk * V.
    """
    V, b, shrunk = W.copy(), b.copy(), 1.0
    longest = LONGEST_MOVE * getattr(loss, "delta", 1.0)
    for step, rate in enumerate(rates):
        rows = order[step * batch : (step + 1) * batch]
        X = data.take(rows)
        if metric.mean is None:
            columns, X = in_columns(X)
            W = shrunk * V[columns]
        else:
            W = V
        U = loss.rows(rows)(scores_of(X, W, b), data.y[rows])[1]
        U *= (len(order) / len(rows) * data.weights[rows])[:, None]
        residual = U.sum(axis=0)
        gradient = X.T @ U
        if metric.mean is not None:
            gradient += 2 * alpha * W - np.outer(metric.mean, residual)
        W_step = -rate * metric(gradient)
        b_step = -rate * metric.intercept * residual
        if metric.mean is not None and metric.intercept:
            b_step -= metric.mean @ W_step
        move = float(np.abs(X @ W_step + b_step).max(initial=0))
        part = min(1.0, longest / move) if move > 0 else 1.0
        b += part * b_step
        if metric.mean is None:
            shrunk *= np.exp(-2 * alpha * part * rate * metric.matrix)
            if shrunk < 1e-6:
                V, shrunk = shrunk * V, 1.0
            V[columns] += (part / shrunk) * W_step
        else:
            V += part * W_step
    return V * V.dtype.type(shrunk), b


def in_columns(X: Any, more: int = 0) -> tuple[np.ndarray, Any]:
    """The columns that sparse rows have, and the rows in these alone.

    And in so many ``more``, empty ones, behind them. In one of X if it has none.
    """
    if X.shape[1] <= FEW_COLUMNS * X.nnz:  # to mark them takes less than to sort
        marks = np.zeros(X.shape[1], dtype=bool)
        marks[X.indices] = True
        columns = np.flatnonzero(marks)
        places = np.empty(X.shape[1], dtype=X.indices.dtype)
        places[columns] = np.arange(len(columns))
        indices = places[X.indices]
    else:
        columns, indices = np.unique(X.indices, return_inverse=True)
    if not len(columns) + more:
        columns = np.zeros(1, dtype=int)
    shape = X.shape[0], len(columns) + more
    return columns, scipy.sparse.csr_matrix((X.data, indices, X.indptr), shape)


def assess(span: Span, loss: Loss) -> tuple[float, np.ndarray]:
    """Objective, and activity (n,) of each sample's loss, at the span's point."""
    data = span.data
    scores = span.scores + span.b
    activity = loss.diagonal(scores, data.y, slack=0.2).mean(axis=1)
    # a loss that is flat here is not flat a step away
    typical = max(float(activity @ data.weights), 1e-2 * loss.curvature)
    return span.value(loss.exact), np.maximum(activity, 1e-2 * typical)


def measure(
    data: Data, alpha: float, activity: np.ndarray, fit_intercept: bool
) -> Metric:
    """The inverse of the curvature at hand, shared by the classes."""
    if data.sparse and data.X.shape[1] > LARGEST_SPARSE_FACTOR:
        return measure_wide(data, alpha, activity, fit_intercept)
    mean_activity = float(activity @ data.weights)
    intercept = 1 / mean_activity if fit_intercept else 0.0
    enough = max(SAMPLE, 5 * data.X.shape[1])
    counted = np.flatnonzero(data.weights)
    step = max(1, len(counted) // enough)
    whole = len(counted) == len(data.y)  # of which a view will do
    thin = slice(None, None, step) if whole else counted[::step]
    weights = data.weights[thin] / data.weights[thin].sum()
    X, y, dtype = data.X[thin], data.y[thin], data.dtype
    data = Data(X, y, weights, data.n_classes, dtype, data.tally)
    activity = activity[thin]
    variables = choose_variables(data, alpha, activity, fit_intercept)
    T = variables.factor
    leverages = [
        activity[block.rows]
        * (np.square(features(block.X, variables, False)).sum(axis=1) + intercept)
        for block in data
    ]
    leverage = np.concatenate(leverages)
    matrix = T**2 if T.ndim == 1 else T @ T.T
    return Metric(
        variables.mean.astype(data.dtype),
        matrix.astype(data.dtype),
        intercept,
        effective(leverage, data.weights),
    )


def measure_wide(
    data: Data, alpha: float, activity: np.ndarray, fit_intercept: bool
) -> Metric:
    """The same as a number, which keeps sparse steps sparse."""
    weights = activity * data.weights
    intercept = 1 / float(weights.sum()) if fit_intercept else 0.0
    norms = row_norms(data.X, squared=True)
    counted = weights > 0
    alone = float((weights[counted] * norms[counted]).max(initial=0))  # of one row
    curvature = max(_largest_eigenvalue(data, weights), alone) + 2 * alpha
    curvature = max(curvature, float(np.finfo(np.float64).tiny))  # rows of zeros
    leverage = activity * (norms / curvature + intercept)
    return Metric(None, 1 / curvature, intercept, effective(leverage, data.weights))


def effective(leverage: np.ndarray, weights: np.ndarray) -> float:
    """E l^2 / E l: what a batch that is drawn at random meets."""
    leverage = np.where(weights > 0, leverage, 0)  # others may be of any size
    total = float(weights @ leverage)
    return float(weights @ np.square(leverage)) / total if total > 0 else 0.0


def _largest_eigenvalue(data: Data, weights: np.ndarray) -> float:
    """Of X' diag(weights) X, from below, by a few power iterations."""
    v, value = np.ones(data.X.shape[1]), 0.0
    for _ in range(10):
        size = _length(v)
        if size == 0:
            break
        u = v / size
        v = sum(b.X.T @ (weights[b.rows] * (b.X @ u)) for b in data)
        value = _length(v)
    return value


def _length(v: np.ndarray) -> float:
    """||v||, whose square may be too large for a number."""
    largest = float(np.abs(v).max(initial=0))
    return largest * float(np.linalg.norm(v / largest)) if largest else 0.0
