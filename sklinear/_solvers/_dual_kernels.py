"""What dual coordinate ascent holds of the rows, and the compiled loops that read it.

A row's dual variables are relative to its weight: for the hinges the multipliers a_j of
its margins, 0 at the true class; for the softmax the probabilities q_j. The score
gradients are U = w (a - e_y sum a), or w (q - e_y), and

    V = -X' U / (2 alpha),    r = 1' U,    g = V' mean,

from which the scores of a row x, with features centred and the intercept
b = b_ref - r / (2 eps), are x' V + b_ref - g + (mean' x - mean' mean) / (2 alpha) r
- r / (2 eps).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklinear._solvers._dual_blocks import (
    compiled,
    exponential,
    largest,
    summing,
)
from sklinear._solvers._dual_vectors import add_products, subtract_products


class Rows(NamedTuple):
    """Rows in CSR form, with all that does not change during a fit."""

    data: np.ndarray  # (nnz,)
    indices: np.ndarray  # (nnz,) uint32, which are not looked at for a sign
    indptr: np.ndarray  # (m + 1,) int64
    y: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)
    squares: np.ndarray  # (n,) ||x - mean||^2
    shifts: np.ndarray  # (n,) mean' x


class State(NamedTuple):
    """The dual variables and what is kept of them."""

    A: np.ndarray  # (n, k)
    V: np.ndarray  # (d, k), padded with columns of zeros
    r: np.ndarray  # (k,)
    g: np.ndarray  # (k,)
    b_ref: np.ndarray  # (k,)


class Lists(NamedTuple):
    """The classes whose multipliers were above 0 when a row was last seen whole."""

    classes: np.ndarray  # (n, m) uint32
    counts: np.ndarray  # (n,) int32, below 0 where it is not known or has no room


class Scales(NamedTuple):
    """The penalties, as they enter."""

    coef: float  # 1 / (2 alpha)
    intercept: float  # 1 / (2 eps), or 0 without an intercept
    mean: float  # mean' mean


FEW = 4  # of how many classes one changes, that they are changed one by one
FAR = 1e30  # margin of the true class to itself, which never counts


@compiled
def norms(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """||x - mean||^2 and mean' x of the rows, (n,)."""
    n = len(indptr) - 1
    squares, shifts = np.zeros(n), np.zeros(n)
    centre = 0.0
    for j in range(len(mean)):
        centre += mean[j] ** 2
    for i in range(n):
        for t in range(indptr[i], indptr[i + 1]):
            squares[i] += np.float64(data[t]) ** 2
            shifts[i] += data[t] * mean[indices[t]]
        squares[i] = max(squares[i] - 2 * shifts[i] + centre, 0.0)
    return squares, shifts


@compiled
def moments(V: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, float]:
    """mean' V (k,) and ||V||^2; BLAS would round as the memory happens to lie."""
    d, k = V.shape
    g, square = np.zeros(k), 0.0
    for i in range(d):
        m = mean[i]
        for j in range(k):
            g[j] += m * V[i, j]
        square += _square(V[i])
    return g, square


@summing
def _square(v: np.ndarray) -> float:
    """||v||^2."""
    found = 0.0
    for j in range(len(v)):
        found += np.float64(v[j]) ** 2
    return found


@compiled
def advance(
    V: np.ndarray, before: np.ndarray, anchor: np.ndarray, further: float, part: float
) -> None:
    """Extrapolate V to the next anchor, and add a part of that one's move to it."""
    d, k = V.shape
    for i in range(d):
        for j in range(k):
            v, last = V[i, j], anchor[i, j]
            anchor[i, j] = v + further * (v - before[i, j])
            before[i, j] = v
            V[i, j] = v + part * (anchor[i, j] - last)


@compiled
def coefficients(V: np.ndarray, mean: np.ndarray, along: np.ndarray) -> np.ndarray:
    """V + mean along' in float64, without the padding."""
    d, k = len(V), len(along)
    W = np.empty((d, k))
    for i in range(d):
        for j in range(k):
            W[i, j] = V[i, j] + mean[i] * along[j]
    return W


@compiled
def pull(
    rows: Rows, state: State, scales: Scales, order: np.ndarray, packed: bool
) -> None:
    """Add some rows' part to V and r."""
    A, V, r, _, _ = state
    k = A.shape[1]
    u, change = np.empty(k), np.zeros(V.shape[1], V.dtype)
    seen = np.empty(k, np.uint32)
    for place in range(len(order)):
        i = order[place]
        at = place if packed else i
        y, w = rows.y[i], rows.weights[i]
        rest = 0.0
        for j in range(k):
            u[j] = w * A[i, j]
            rest += u[j]
        # the softmax's gradient w (q - e_y) adds up to 0 as exactly as the hinge's
        u[y] -= rest
        count = 0
        for j in range(k):
            if u[j] != 0:
                r[j] += u[j]
                seen[count] = j
                count += 1
            change[j] = scales.coef * u[j]
        start, stop = rows.indptr[at], rows.indptr[at + 1]
        if FEW * count < k:
            for t in range(start, stop):
                x, v = rows.data[t], V[rows.indices[t]]
                for c in range(count):
                    v[seen[c]] -= x * change[seen[c]]
        elif count:
            subtract_products(V, rows.data, rows.indices, start, stop, change)


@compiled
def survey(
    rows: Rows,
    state: State,
    scales: Scales,
    order: np.ndarray,
    packed: bool,
    power: int,
) -> tuple[float, float]:
    """Loss at the scores of V and b_ref, and conjugate of A, of some rows.

    ``power`` is 0 for the softmax.
    """
    A, V, r, g, b_ref = state
    k = A.shape[1]
    wide = np.zeros(V.shape[1], V.dtype)
    s = wide[:k]
    loss = conjugate = 0.0
    for place in range(len(order)):
        i = order[place]
        at = place if packed else i
        y, w = rows.y[i], rows.weights[i]
        tilt = (rows.shifts[i] - scales.mean) * scales.coef
        for j in range(k):
            s[j] = b_ref[j] - g[j] + tilt * r[j]
        start, stop = rows.indptr[at], rows.indptr[at + 1]
        add_products(wide, rows.data, rows.indices, start, stop, V)
        value = dual = 0.0
        if power == 0:
            top, own = largest(s), s[y]
            for j in range(k):
                value += exponential(s[j] - top)
                if A[i, j] > 0:
                    dual += A[i, j] * np.log(A[i, j])
            value = np.log(value) + top - own
        else:
            own = s[y] - 1
            s[y] = -FAR
            for j in range(k):
                violation = max(np.float64(s[j] - own), 0.0)
                a = A[i, j]
                if power == 2:
                    value += violation * violation
                    dual += a * (a / 4 - 1)
                else:
                    value += violation
                    dual -= a
        loss += w * value
        conjugate += w * dual
    return loss, conjugate
