"""Mini-batch SGD on data that come in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklinear._data import Data
from sklinear._losses import Loss
from sklinear._solvers._sgd import (
    FEWEST_STEPS,
    Metric,
    assess,
    effective,
    first_rate,
    measure,
    run_epoch,
    smoothed,
)
from sklinear._solvers._solution import Options
from sklinear._solvers._span import Span, forward


@dataclass
class Stream:
    """What has to be remembered of the rows that went by."""

    n_rows: int = 0
    n_steps: int = 0
    total: float = 0.0  # weight of the rows
    mean: np.ndarray | float = 0.0  # (d,), dense rows only
    spread: np.ndarray | float = 0.0  # (d,), weighted squares of the distances from it

    def see(self, data: Data, n_steps: int) -> None:
        """Merge the moments of more rows (Chan, Golub and LeVeque 1983)."""
        total = float(data.weights.sum())
        share = total / (self.total + total)
        if not data.sparse:
            mean = sum(block.weights @ block.X for block in data) / total
            spread = sum(b.weights @ np.square(b.X - mean) for b in data)
            away = mean - self.mean
            self.spread = self.spread + spread + self.total * share * np.square(away)
            self.mean = self.mean + share * away
        self.total += total
        self.n_rows += int(np.count_nonzero(data.weights))
        self.n_steps += n_steps


def partial_sgd(
    data: Data,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    start: tuple[np.ndarray, np.ndarray],
    options: Options,
    stream: Stream,
) -> tuple[np.ndarray, np.ndarray]:
    """One pass over more rows, in their order; the rate falls as 1 / sqrt(steps).

    ``data.weights`` are the rows' own; they count in units of the mean weight so far.
    O(n d k) time, or O(nnz k + d k) on sparse rows.
    """
    W, b = (part.astype(data.dtype) for part in start)
    order = np.flatnonzero(data.weights)
    n_steps = -(-len(order) // options.batch_size)
    steps = stream.n_steps + np.arange(n_steps)
    stream.see(data, n_steps)
    loss = smoothed(loss, 0.1)
    shares = data.weights * (stream.n_rows / stream.total / len(order))
    data = Data(data.X, data.y, shares, data.n_classes)
    span = Span(data, alpha, fit_intercept, W, b, forward(data, W))
    _, activity = assess(span, loss)
    if data.sparse:
        metric = measure(data, alpha, activity, fit_intercept)
    else:
        metric = _stream_metric(data, alpha, activity, fit_intercept, stream)
    rates = first_rate(metric, options, options.batch_size) / np.sqrt(
        1 + steps / FEWEST_STEPS
    )
    return run_epoch(data, loss, alpha, W, b, order, options.batch_size, metric, rates)


def _stream_metric(
    data: Data,
    alpha: float,
    activity: np.ndarray,
    fit_intercept: bool,
    stream: Stream,
) -> Metric:
    """The diagonal one, from the moments of all rows so far."""
    typical = float(activity @ data.weights)
    intercept = 1 / typical if fit_intercept else 0.0
    mean = np.asarray(stream.mean)
    squares = np.square(mean)
    variance = np.asarray(stream.spread) / stream.total
    # without an intercept it is the square that counts; and few rows say little about
    # a variance, so that the mean's own square stands in for it at first
    variance = variance + squares / (stream.n_rows if fit_intercept else 1)
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
