"""Mini-batch SGD on data that come in pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse

from sklinear._checks import LEAST_WEIGHT
from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._solvers._sgd import (
    FEWEST_STEPS,
    FINITE_IN_THE_END,
    Metric,
    assess,
    check_finite,
    effective,
    first_rate,
    in_columns,
    in_range_of_float32,
    measure,
    measure_wide,
    run_epoch,
    smoothed,
)
from sklinear._solvers._solution import Options
from sklinear._solvers._span import Span, forward
from sklinear._variables import LARGEST_SPARSE_FACTOR

ENOUGH = 0.25  # of a batch: what the losses of fewer rows do says little
LEAST_SPREAD = 1e3  # of a feature, in units of what rounding leaves of its mean


@dataclass(frozen=True)
class Moments:
    """Of dense rows: their weight, mean, and weighted squares of distances from it."""

    n_rows: int = 0
    total: float = 0.0
    mean: np.ndarray | float = 0.0  # (d,)
    spread: np.ndarray | float = 0.0  # (d,)

    def merged(self, data: Data, shrink: float) -> Moments:
        """With more rows (Chan, Golub and LeVeque 1983), these ``shrink`` as heavy."""
        before, more = shrink * self.total, float(data.weights.sum())
        mean = sum(block.weights @ block.X for block in data) / more
        spread = sum(b.weights @ np.square(b.X - mean) for b in data)
        away, share = mean - self.mean, more / (before + more)
        return Moments(
            self.n_rows + int(np.count_nonzero(data.weights)),
            before + more,
            self.mean + share * away,
            shrink * self.spread + spread + before * share * np.square(away),
        )


@dataclass(frozen=True)
class Stream:
    """What has to be remembered of the rows that went by."""

    n_rows: int = 0
    n_steps: int = 0
    unit: float = 0.0  # the largest weight, by which weights are divided
    total: float = 0.0  # weight of the rows
    activity: float = 0.0  # of their losses, lately
    moments: Moments = Moments()

    def after(self, data: Data, n_steps: int) -> tuple[Stream, Data]:
        """With more rows in so many steps, and these with weights in its unit."""
        counted = data.weights > 0
        unit = max(self.unit, float(data.weights.max()))
        weights, shrink = data.weights / unit, self.unit / unit
        np.maximum(weights, LEAST_WEIGHT, out=weights, where=counted)
        data = _weighing(data, weights)
        moments = self.moments
        stream = replace(
            self,
            n_rows=self.n_rows + int(np.count_nonzero(counted)),
            n_steps=self.n_steps + n_steps,
            unit=unit,
            total=shrink * self.total + float(data.weights.sum()),
            moments=moments if data.sparse else moments.merged(data, shrink),
        )
        return stream, data


def _weighing(data: Data, weights: np.ndarray) -> Data:
    """The same rows with other weights."""
    return Data(data.X, data.y, weights, data.n_classes, data.dtype, data.tally)


def touched(X: Any) -> tuple[np.ndarray | None, Any]:
    """The columns that wide sparse rows have, and the rows in these alone.

    Of others None and X. An empty column more stands for all that the rows have not.
    """
    if not scipy.sparse.issparse(X) or X.shape[1] <= LARGEST_SPARSE_FACTOR:
        return None, X
    return in_columns(X, more=1)


@FINITE_IN_THE_END
def partial_sgd(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: tuple[np.ndarray, np.ndarray],
    options: Options,
    stream: Stream,
    columns: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, float, Stream]:
    """One pass over more rows, in their order; the rate falls as 1 / sqrt(steps).

    ``data.weights`` are the rows' own; they count in units of the mean weight so far.
    Rows that have been ``touched`` leave the rest of W where it is, but for the part
    that the penalty leaves of it, which is told too. O(n d k) time, or O(nnz k) then.
    """
    data = in_range_of_float32(data)
    W, b = (part.astype(data.dtype) for part in start)
    if columns is not None:
        W = np.vstack([W, np.ones((1, len(b)), W.dtype)])
    order = np.flatnonzero(data.weights)
    n_steps = -(-len(order) // options.batch_size)
    steps = stream.n_steps + np.arange(n_steps)
    stream, data = stream.after(data, n_steps)
    loss = smoothed(loss, 0.1)
    shares = data.weights * (stream.n_rows / stream.total / len(order))
    data = _weighing(data, shares)
    span = Span(data, alpha, fit_intercept, W, b, forward(data, W))
    _, activity = assess(span, loss)
    size = options.batch_size
    mean = float(activity @ shares) / float(shares.sum())
    level = stream.activity or mean
    level += min(1.0, len(order) / (ENOUGH * size)) * (mean - level)
    activity *= level / mean
    stream = replace(stream, activity=level)
    # rows that weigh less than those before are to make shorter steps than they did
    typical = _weighing(data, shares / min(1.0, float(shares.sum())))
    if columns is not None:
        metric = measure_wide(typical, alpha, activity, fit_intercept)
    elif data.sparse:
        metric = measure(typical, alpha, activity, fit_intercept)
    else:
        metric = _stream_metric(typical, alpha, activity, fit_intercept, stream)
    first = first_rate(metric, options, min(size, len(order)))
    rates = first / np.sqrt(1 + steps / FEWEST_STEPS)
    W, b = run_epoch(data, loss, alpha, W, b, order, size, metric, rates)
    check_finite(np.vstack([W, b]), options)
    if columns is not None:
        return W[:-1], b, float(W[-1, 0]), stream
    return W, b, 1.0, stream


def _stream_metric(
    data: Data,
    alpha: float,
    activity: np.ndarray,
    fit_intercept: bool,
    stream: Stream,
) -> Metric:
    """The diagonal one, from the moments of all dense rows so far."""
    typical = float(activity @ data.weights)
    intercept = 1 / typical if fit_intercept else 0.0
    moments = stream.moments
    mean = np.asarray(moments.mean)
    squares = np.square(mean)
    variance = np.asarray(moments.spread) / moments.total
    # without an intercept it is the square that counts; and a few rows say little about
    # a variance, equal numbers nothing: a part of the mean's own square stands in
    part = max(1 / moments.n_rows**4, (LEAST_SPREAD * np.finfo(data.dtype).eps) ** 2)
    variance = variance + squares * (part if fit_intercept else 1)
    matrix = 1 / np.maximum(typical * variance + 2 * alpha, np.finfo(float).tiny)
    centre = mean if fit_intercept else 0.0
    squares = [np.square(block.X - centre) @ matrix for block in data]
    each = activity * (np.concatenate(squares) + intercept)
    return Metric(
        (mean if fit_intercept else np.zeros_like(mean)).astype(data.dtype),
        matrix.astype(data.dtype),
        intercept,
        effective(each, data.weights),
    )
