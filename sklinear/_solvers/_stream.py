"""Mini-batch SGD on data that come in pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import row_norms

from sklinear._checks import LEAST_WEIGHT
from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._solvers._sgd import (
    FEWEST_STEPS,
    FINITE_IN_THE_END,
    SMALLEST_BATCH,
    Metric,
    assess,
    check_finite,
    effective,
    first_rate,
    in_columns,
    in_range_of_float32,
    measure_wide,
    run_epoch,
    smoothed,
)
from sklinear._solvers._solution import Options
from sklinear._solvers._span import Span, forward
from sklinear._variables import LARGEST_SPARSE_FACTOR

AT_FIRST, LONGEST = 512, 4096  # rows in one metric, a batch at least
SPARE = 1.5  # columns of X, of those that its rows have, from which the rest is left
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

    seen: int = 0  # rows, with those of a fit before
    n_rows: int = 0
    n_steps: int = 0
    unit: float = 0.0  # the largest weight, by which weights are divided
    total: float = 0.0  # weight of the rows
    activity: float = 0.0  # of their losses, lately
    overlap: float = 0.0  # of two sparse rows, in units of their squares
    moments: Moments = Moments()

    def after(self, data: Data, n_steps: int) -> tuple[Stream, Data]:
        """With more rows in so many steps, and these with weights in its unit."""
        counted = data.weights > 0
        unit = max(self.unit, float(data.weights.max()))
        weights, shrink = data.weights / unit, self.unit / unit
        np.maximum(weights, LEAST_WEIGHT, out=weights, where=counted)
        data = data.weighing(weights)
        moments = self.moments
        stream = replace(
            self,
            seen=self.seen + int(np.count_nonzero(counted)),
            n_rows=self.n_rows + int(np.count_nonzero(counted)),
            n_steps=self.n_steps + n_steps,
            unit=unit,
            total=shrink * self.total + float(data.weights.sum()),
            moments=moments if data.sparse else moments.merged(data, shrink),
        )
        return stream, data


def touched(X: Any) -> tuple[np.ndarray | None, Any]:
    """The columns that wide sparse rows have, and the rows in these alone.

    Of others None and X. An empty column more stands for all that the rows have not.
    """
    if not scipy.sparse.issparse(X) or X.shape[1] <= LARGEST_SPARSE_FACTOR:
        return None, X
    return in_columns(X, more=1)


def filled(X: Any) -> tuple[np.ndarray | None, Any]:
    """The columns that sparse rows have, if these are few, and the rows in them alone.

    Of others None and X. A hash of words has a million columns, most of them empty, and
    steps that work on all of them.
    """
    if not scipy.sparse.issparse(X) or X.shape[1] <= LARGEST_SPARSE_FACTOR:
        return None, X
    columns, few = in_columns(X)
    return (columns, few) if SPARE * len(columns) <= X.shape[1] else (None, X)


@FINITE_IN_THE_END
def partial_sgd(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: tuple[np.ndarray, np.ndarray],
    options: Options,
    stream: Stream,
    apart: bool,
) -> tuple[np.ndarray, np.ndarray, float, Stream]:
    """One pass over more rows, in their order; the rate falls as 1 / sqrt(steps).

    ``data.weights`` are the rows' own; they count in units of the mean weight so far.
    Rows that lie ``apart`` in the columns that they touch leave the rest of W where it
    is, but for the part that the penalty leaves of it, which is told too. O(n d k)
    time, or O(nnz k) then.
    """
    data = in_range_of_float32(data)
    W, b = (part.astype(data.dtype) for part in start)
    if apart:
        W = np.vstack([W, np.ones((1, len(b)), W.dtype)])
    loss = smoothed(loss, 0.1)
    # what rows say of the metric changes as they are learnt, at first by much
    order, done = np.flatnonzero(data.weights), 0
    length = max(AT_FIRST, options.batch_size)
    while done < len(order):
        places = order[done : done + length]
        rows = slice(places[0], places[-1] + 1)
        X, y, weights = data.X[rows], data.y[rows], data.weights[rows]
        if data.sparse and not apart:  # of few columns
            X = X.toarray()
        piece = Data(X, y, weights, data.n_classes, data.dtype, data.tally)
        W, b, stream = _learn(piece, loss, alpha, fit_intercept, W, b, options, stream)
        done += length
        length = max(min(done, LONGEST), options.batch_size)
    check_finite(np.vstack([W, b]), options)
    if apart:
        return W[:-1], b, float(W[-1, 0]), stream
    return W, b, 1.0, stream


def _learn(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    W: np.ndarray,
    b: np.ndarray,
    options: Options,
    stream: Stream,
) -> tuple[np.ndarray, np.ndarray, Stream]:
    """One pass over rows in the metric that they, and those before, have at W, b.

    Batches of a hundredth of the rows so far, within bounds, let one pass teach most.
    """
    seen, most = stream.seen, options.batch_size
    size = min(most, max(SMALLEST_BATCH, seen // FEWEST_STEPS))
    order = np.flatnonzero(data.weights)
    n_steps = -(-len(order) // size)
    steps = stream.n_steps + np.arange(n_steps)
    stream, data = stream.after(data, n_steps)
    shares = data.weights * (stream.n_rows / stream.total / len(order))
    data = data.weighing(shares)
    span = Span(data, alpha, fit_intercept, W, b, forward(data, W))
    _, activity = assess(span, loss)
    mean = float(activity @ shares) / float(shares.sum())
    level = stream.activity or mean
    level += min(1.0, len(order) / (ENOUGH * most)) * (mean - level)
    activity *= level / mean
    stream = replace(stream, activity=level)
    # rows that weigh less than those before are to make shorter steps than they did
    typical = data.weighing(shares / min(1.0, float(shares.sum())))
    if data.sparse:
        metric = measure_wide(typical, alpha, activity, fit_intercept)
    else:
        metric = _stream_metric(typical, alpha, activity, fit_intercept, stream)
    batch = min(size, len(order))
    usual = np.minimum(most, seen + size * np.arange(n_steps))
    first = first_rate(metric, options, batch, usual)
    if data.sparse:  # rows have the intercept in common, but not all of their columns
        counted = data.X if len(order) == len(data.y) else data.X[order]
        stream = replace(stream, overlap=_overlap(counted, stream.overlap, most))
        shared, usual = first, stream.overlap * usual
        first = first_rate(metric, options, batch, usual)
        part = float(np.mean(shared / first))
        metric = replace(metric, intercept=part * metric.intercept)
    rates = first / np.sqrt(1 + steps / FEWEST_STEPS)
    return *run_epoch(data, loss, alpha, W, b, order, size, metric, rates), stream


def _overlap(X: Any, before: float, size: int) -> float:
    """Typical product of two rows, in units of their squares, with those before."""
    squares = row_norms(X, squared=True)
    total, m = float(squares.sum()), np.count_nonzero(squares)
    if m < 2:
        return before
    summed = np.square(X.sum(axis=0, dtype=np.float64)).sum()
    found = min(max(0.0, (float(summed) / total - 1) / (m - 1)), 1.0)
    share = min(1.0, m / (ENOUGH * size)) if before else 1.0
    return before + share * (found - before)


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
    tiny = float(np.finfo(data.dtype).tiny)  # of a feature that no row has, say
    matrix = 1 / np.maximum(typical * variance + 2 * alpha, tiny)
    centre = mean if fit_intercept else 0.0
    squares = [np.square(block.X - centre) @ matrix for block in data]
    each = activity * (np.concatenate(squares) + intercept)
    return Metric(
        (mean if fit_intercept else np.zeros_like(mean)).astype(data.dtype),
        matrix.astype(data.dtype),
        intercept,
        effective(each, data.weights),
    )
