"""The compiled epochs of dual coordinate ascent: one visit to each row."""

from __future__ import annotations

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
from sklinear._solvers._dual_kernels import FAR, FEW, Lists, Rows, Scales, State
from sklinear._solvers._dual_vectors import (
    LANES,
    above,
    add_products,
    subtract_products,
)

NEAR = 1e-2  # of a step of log q, as below, after which a row's solution is good enough
SOME = 32  # classes beyond which those are left out whose margin holds


@summing
def _violated(s: np.ndarray, own: float, power: int) -> float:
    """A row's loss, its true class left out."""
    loss = 0.0
    for j in range(len(s)):
        violation = max(np.float64(s[j] - own), 0.0)
        loss += violation if power == 1 else violation * violation
    return loss


@compiled
def hinge_epoch(
    rows: Rows,
    state: State,
    scales: Scales,
    order: np.ndarray,
    packed: bool,
    gaps: np.ndarray,
    power: int,
    lists: Lists,
) -> float:
    """Visit the rows ``order``; their loss, and in ``gaps`` each gap, as they were met.

    The CSR arrays of ``rows`` hold all rows or, ``packed``, those of ``order`` alone.
    ``power`` is 1 for the hinge, 2 for its square. Few multipliers of a row are ever
    above 0: of many classes those that are, and the margins that are violated, are
    solved for, the others left at 0.
    """
    A, V, r, g, b_ref = state
    k, width, room = A.shape[1], V.shape[1], lists.classes.shape[1]
    s, level = np.zeros(width, V.dtype), np.empty(1, V.dtype)
    z, old, new = np.empty(k), np.empty(k), np.empty(k)
    seen, change = np.empty(k + 1, np.uint32), np.empty(k + 1, V.dtype)
    dense = np.zeros(width, V.dtype)
    cap = np.inf if power == 2 else 1.0
    ridge = 0.5 * (power - 1)
    all_loss = 0.0
    for place in range(len(order)):
        i = order[place]
        at = place if packed else i
        start, stop = rows.indptr[at], rows.indptr[at + 1]
        y, w, a, classes = rows.y[i], rows.weights[i], A[i], lists.classes[i]
        listed = lists.counts[i]
        tilt = (rows.shifts[i] - scales.mean) * scales.coef - scales.intercept
        for j in range(k):
            s[j] = b_ref[j] - g[j] + tilt * r[j]
        add_products(s, rows.data, rows.indices, start, stop, V)
        s[k:] = -FAR
        own = s[y] - 1
        # of a few classes all are solved for; what is left out is at -FAR
        level[0] = max(own, -FAR / 2) if k > SOME else -FAR / 2
        s[y] = -FAR
        loss = _violated(s, own, power)
        count = 0
        if listed < 0:
            for j in range(k):
                if a[j] > 0:
                    seen[count] = j
                    count += 1
        else:
            for c in range(listed):
                seen[c] = classes[c]
            count = listed
        for c in range(count):
            z[c] = s[seen[c]] - own
            s[seen[c]] = -FAR  # lest it be seen twice
        for first in range(0, width, LANES):
            bits = above(s, first, level[0])
            j = first
            while bits:
                if bits & 1:
                    seen[count] = j
                    z[count] = s[j] - own
                    count += 1
                bits >>= 1
                j += 1
        all_loss += w * loss
        gap, before, slope = loss, 0.0, 0.0
        for c in range(count):
            old[c] = a[seen[c]]
            gap -= old[c] * (z[c] - 0.5 * ridge * old[c])
            rise = z[c] - ridge * old[c]
            slope += abs(min(max(old[c] + rise, 0.0), cap) - old[c])
            before += old[c]
        gaps[i] = w * gap
        if slope == 0:
            continue
        h = w * (rows.squares[i] * scales.coef + scales.intercept)
        for c in range(count):
            z[c] += h * (old[c] + before)
        multipliers(z[:count], h, ridge, cap, before, new[:count])
        kept = 0
        for c in range(count):
            if new[c] > 0:
                if kept < room:
                    classes[kept] = seen[c]
                kept += 1
        lists.counts[i] = kept if kept <= room else -1
        rest, tilt, changed = 0.0, rows.shifts[i] * scales.coef, 0
        for c in range(count):
            u = w * (new[c] - old[c])
            if u != 0:
                j = seen[c]
                a[j] = new[c]
                rest += u
                r[j] += u
                g[j] -= tilt * u
                seen[changed] = j
                change[changed] = scales.coef * u
                changed += 1
        r[y] -= rest
        g[y] += tilt * rest
        seen[changed] = y
        change[changed] = -scales.coef * rest
        changed += 1
        if FEW * changed < k:
            for t in range(start, stop):
                x, v = rows.data[t], V[rows.indices[t]]
                for c in range(changed):
                    v[seen[c]] -= x * change[c]
            continue
        for c in range(changed):
            dense[seen[c]] = change[c]
        subtract_products(V, rows.data, rows.indices, start, stop, dense)
        for c in range(changed):
            dense[seen[c]] = 0
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
    gaps: np.ndarray,
) -> float:
    """As ``hinge_epoch``; the gaps are so to second order in q - softmax(s)."""
    A, V, r, g, b_ref = state
    k = A.shape[1]
    wide, change = np.zeros((2, V.shape[1]), V.dtype)
    s, t, q, log_q = wide[:k], np.empty(k), np.empty(k), np.empty(k)
    loss = 0.0
    for place in range(len(order)):
        i = order[place]
        y, w = rows.y[i], rows.weights[i]
        at = place if packed else i
        start, stop = rows.indptr[at], rows.indptr[at + 1]
        tilt = (rows.shifts[i] - scales.mean) * scales.coef - scales.intercept
        for j in range(k):
            s[j] = b_ref[j] - g[j] + tilt * r[j]
        add_products(wide, rows.data, rows.indices, start, stop, V)
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
        probabilities(t, h, log_q, q, NEAR)
        for j in range(k):
            u = w * (q[j] - A[i, j])
            A[i, j] = q[j]
            r[j] += u
            g[j] -= rows.shifts[i] * scales.coef * u
            change[j] = scales.coef * u
        subtract_products(V, rows.data, rows.indices, start, stop, change)
    return loss
