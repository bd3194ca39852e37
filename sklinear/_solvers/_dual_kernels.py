"""The compiled loops of dual coordinate descent: one visit to each row.

A row's dual variables are relative to its weight: for the hinges the multipliers a_j of
its margins, 0 at the true class; for the softmax the probabilities q_j. The score
gradients are U = w (a - e_y sum a), or w (q - e_y), and

    V = -X' U / (2 alpha),    r = 1' U,    g = V' mean,

from which the scores of a row x, with features centred and the intercept
b = b_ref - r / (2 eps), are x' V + b_ref - g + (mean' x - mean' mean) / (2 alpha) r
- r / (2 eps).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklinear._solvers._dual_blocks import (
    compiled,
    exponential,
    largest,
    multipliers,
    probabilities,
    summing,
    total,
)


class Rows(NamedTuple):
    """Rows in CSR form, with all that does not change during a fit."""

    data: np.ndarray  # (nnz,)
    indices: np.ndarray  # (nnz,) int32
    indptr: np.ndarray  # (m + 1,) int64
    y: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)
    squares: np.ndarray  # (n,) ||x - mean||^2
    shifts: np.ndarray  # (n,) mean' x


class State(NamedTuple):
    """The dual variables and what is kept of them."""

    A: np.ndarray  # (n, k)
    V: np.ndarray  # (d, k)
    r: np.ndarray  # (k,)
    g: np.ndarray  # (k,)
    b_ref: np.ndarray  # (k,)


class Scales(NamedTuple):
    """The penalties, as they enter."""

    coef: float  # 1 / (2 alpha)
    intercept: float  # 1 / (2 eps), or 0 without an intercept
    mean: float  # mean' mean


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
def pull(
    rows: Rows, state: State, scales: Scales, order: np.ndarray, packed: bool
) -> None:
    """Add some rows' part to V and r."""
    A, V, r, _, _ = state
    k = V.shape[1]
    u, change = np.empty(k), np.empty(k, V.dtype)
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
        for j in range(k):
            r[j] += u[j]
            change[j] = scales.coef * u[j]
        for t in range(rows.indptr[at], rows.indptr[at + 1]):
            x, v = rows.data[t], V[rows.indices[t]]
            for j in range(k):
                v[j] -= x * change[j]


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
    k = V.shape[1]
    s = np.empty(k, V.dtype)
    loss = conjugate = 0.0
    for place in range(len(order)):
        i = order[place]
        at = place if packed else i
        y, w = rows.y[i], rows.weights[i]
        tilt = (rows.shifts[i] - scales.mean) * scales.coef
        for j in range(k):
            s[j] = b_ref[j] - g[j] + tilt * r[j]
        for t in range(rows.indptr[at], rows.indptr[at + 1]):
            x, v = rows.data[t], V[rows.indices[t]]
            for j in range(k):
                s[j] += x * v[j]
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


@summing
def _met(
    s: np.ndarray, own: float, a: np.ndarray, power: int, ridge: float, cap: float
) -> Any:
    """One row's loss, gap, distance from what it would be if alone, and sum of a."""
    loss = gap = slope = before = 0.0
    for j in range(len(s)):
        margin = np.float64(s[j] - own)
        violation = max(margin, 0.0)
        value = violation if power == 1 else violation * violation
        loss += value
        gap += value - a[j] * (margin - 0.5 * ridge * a[j])
        rise = margin - ridge * a[j]
        slope += abs(min(max(a[j] + rise, 0.0), cap) - a[j])
        before += a[j]
    return loss, gap, slope, before


@compiled
def hinge_epoch(
    rows: Rows,
    state: State,
    scales: Scales,
    order: np.ndarray,
    packed: bool,
    power: int,
    gaps: np.ndarray,
) -> float:
    """Visit the rows ``order``; their loss, and in ``gaps`` each gap, as they were met.

    The CSR arrays of ``rows`` hold all rows or, ``packed``, those of ``order`` alone.
    ``power`` is 1 for the hinge, 2 for its square.
    """
    A, V, r, g, b_ref = state
    k = V.shape[1]
    s, z, a = np.empty(k, V.dtype), np.empty(k), np.empty(k)
    change = np.empty(k, V.dtype)
    cap = np.inf if power == 2 else 1.0
    ridge = 0.5 * (power - 1)
    all_loss = 0.0
    for place in range(len(order)):
        i = order[place]
        at = place if packed else i
        start, stop = rows.indptr[at], rows.indptr[at + 1]
        y, w = rows.y[i], rows.weights[i]
        tilt = (rows.shifts[i] - scales.mean) * scales.coef - scales.intercept
        for j in range(k):
            s[j] = b_ref[j] - g[j] + tilt * r[j]
        for t in range(start, stop):
            x, v = rows.data[t], V[rows.indices[t]]
            for j in range(k):
                s[j] += x * v[j]
        own = s[y] - 1
        s[y] = -FAR
        loss, gap, slope, before = _met(s, own, A[i], power, ridge, cap)
        all_loss += w * loss
        gaps[i] = w * gap
        if slope == 0:
            continue
        h = w * (rows.squares[i] * scales.coef + scales.intercept)
        for j in range(k):
            z[j] = s[j] - own + h * (A[i, j] + before)
        multipliers(z, h, ridge, cap, before, a)
        for j in range(k):
            z[j] = w * (a[j] - A[i, j])
            A[i, j] = a[j]
        z[y] = 0.0
        z[y] = -total(z)
        tilt = rows.shifts[i] * scales.coef
        for j in range(k):
            r[j] += z[j]
            g[j] -= tilt * z[j]
            change[j] = scales.coef * z[j]
        for t in range(start, stop):
            x, v = rows.data[t], V[rows.indices[t]]
            for j in range(k):
                v[j] -= x * change[j]
    return all_loss


@summing
def _off(p: np.ndarray, q: np.ndarray) -> float:
    """sum (p - q)^2 / (p + q)."""
    gap = 0.0
    for j in range(len(p)):
        off = p[j] - q[j]
        gap += off * off / (p[j] + q[j] + 1e-300)
    return gap


@compiled
def softmax_epoch(
    rows: Rows,
    state: State,
    scales: Scales,
    order: np.ndarray,
    packed: bool,
    power: int,
    gaps: np.ndarray,
) -> float:
    """As ``hinge_epoch``; the gaps are so to second order in q - softmax(s)."""
    A, V, r, g, b_ref = state
    k = V.shape[1]
    s, t, q = np.empty(k, V.dtype), np.empty(k), np.empty(k)
    log_q, change = np.empty(k), np.empty(k, V.dtype)
    loss = 0.0
    for place in range(len(order)):
        i = order[place]
        y, w = rows.y[i], rows.weights[i]
        at = place if packed else i
        start, stop = rows.indptr[at], rows.indptr[at + 1]
        tilt = (rows.shifts[i] - scales.mean) * scales.coef - scales.intercept
        for j in range(k):
            s[j] = b_ref[j] - g[j] + tilt * r[j]
        for m in range(start, stop):
            x, v = rows.data[m], V[rows.indices[m]]
            for j in range(k):
                s[j] += x * v[j]
        top = largest(s)
        for j in range(k):
            log_q[j] = s[j] - top
            q[j] = exponential(log_q[j])
        mass = total(q)
        shift = np.log(mass)
        loss += w * (shift - log_q[y])
        h = w * (rows.squares[i] * scales.coef + scales.intercept)
        for j in range(k):
            t[j] = log_q[j] + h * A[i, j]
            log_q[j] -= shift
            q[j] *= 1 / mass
        gaps[i] = w * _off(q, A[i])
        probabilities(t, h, log_q, q)
        for j in range(k):
            u = w * (q[j] - A[i, j])
            A[i, j] = q[j]
            r[j] += u
            g[j] -= rows.shifts[i] * scales.coef * u
            change[j] = scales.coef * u
        for m in range(start, stop):
            x, v = rows.data[m], V[rows.indices[m]]
            for j in range(k):
                v[j] -= x * change[j]
    return loss
