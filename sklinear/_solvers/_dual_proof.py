"""The certificate's visit to sparse rows, in compiled code: once through X, not twice.

What it sums up is that of ``_visit``, whose losses say the formulas.
"""

from __future__ import annotations

import numpy as np

from sklinear._data import Data
from sklinear._losses import TINY, CrossEntropy, Hinge
from sklinear._objective import Point
from sklinear._solvers._dual_blocks import compiled, largest
from sklinear._visit import EPS, LARGEST_EXACT, Visit, bent, roundings, visited


def visited_compiled(
    data: Data,
    at: Point,
    reach: float,
    fit_intercept: bool,
    witness: np.ndarray | Point | None,
    rescaled: bool,
) -> Visit:
    """One pass over sparse rows in memory, as ``visited``."""
    loss, (d, k), n = at.loss, at.W.shape, len(data.y)
    if witness is not None and isinstance(loss, Hinge):
        return visited(data, at, reach, fit_intercept, witness, rescaled)
    visit = Visit(d, k, fit_intercept)
    # a row's value, conjugate, both less g s, size of gradient, ||x||, margins near 0
    each, leeway = np.zeros((6, n)), np.zeros((n, k) if fit_intercept else (0, k))
    by_class = np.zeros((k, k))
    power = 1 if isinstance(loss, Hinge) else 2 * (not isinstance(loss, CrossEntropy))
    off = 16 * EPS * float(np.linalg.norm(at.W)), 16 * EPS * float(np.abs(at.b).max())
    X, order = data.X, np.argsort(data.y, kind="stable")  # rows of a class share words
    _visit_rows(
        X.data,
        X.indices,
        X.indptr,
        data.y,
        data.weights,
        order,
        at.W,
        at.b,
        power,
        getattr(loss, "delta", 1.0),
        reach,
        off,
        each,
        visit.pulled,
        by_class,
        leeway,
    )
    values, conjugates, excess, sizes, norms, near = each
    rows = np.flatnonzero(near)
    if power == 1 and len(rows) * at.W.size <= LARGEST_EXACT:
        return visited(data, at, reach, fit_intercept, witness, rescaled)
    data.tally.add(n)
    visit.primal = float(values @ data.weights)
    visit.conjugate = float(conjugates @ data.weights)
    visit.excess = float(excess @ data.weights)
    sizes *= data.weights
    visit.size, visit.reached = float(sizes.sum()), float(sizes @ norms)
    visit.parts = 1
    visit.hidden = EPS * (roundings(n) + 1) * visit.reached
    visit.lifted = (off[0] * visit.reached + off[1] * visit.size) / (16 * EPS)
    visit.residual = by_class.sum(axis=0)
    visit.squares = float(np.square(norms) @ data.weights)
    hidden = off[0] * norms + off[1]
    if power == 1:
        hidden *= (1 + rescaled / 16) * near
    elif power == 2:
        hidden = near * hidden**2
    else:
        hidden = bent(values, hidden)
    visit.kinks = float(hidden @ data.weights)
    if fit_intercept:
        for block in data:
            visit.add_leeway(block, leeway[block.rows])
    return visit


@compiled
def _visit_rows(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    order: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    power: int,
    delta: float,
    reach: float,
    off: tuple[float, float],
    each: np.ndarray,
    pulled: np.ndarray,
    by_class: np.ndarray,
    leeway: np.ndarray,
) -> None:
    """Fill the last four arrays; ``power`` is 0 for the softmax."""
    k = W.shape[1]
    s, p, u = np.empty(k), np.empty(k), np.empty(k)
    seen = np.empty(k, np.int64)
    for place in range(len(order)):
        i = order[place]
        y, w = labels[i], weights[i]
        if w == 0:
            continue
        square = 0.0
        for j in range(k):
            s[j] = b[j]
        for t in range(indptr[i], indptr[i + 1]):
            x, v = data[t], W[indices[t]]
            square += x * x
            for j in range(k):
                s[j] += x * v[j]
        norm = np.sqrt(square)
        value = conjugate = rest = 0.0
        count = near = 0
        if power == 0:
            top = largest(s)
            for j in range(k):
                p[j] = np.exp(s[j] - top)
            true = p[y]
            p[y] = 0
            for j in range(k):
                rest += p[j]
            whole = rest + true
            log_whole, own = np.log(whole), s[y] - top
            value = np.log1p(rest / true) if true > TINY else log_whole - own
            for j in range(k):
                p[j] /= whole
                conjugate += p[j] * (s[j] - top - log_whole)
                seen[j] = j
            count, rest = k, rest / whole
            if rest < 1:
                conjugate += (1 - rest) * np.log1p(-rest)
        else:
            least = -(off[0] * norm + off[1])
            own = s[y]
            for j in range(k):
                margin = s[j] - own + delta
                p[j] = 0.0
                if j == y or margin <= least:
                    continue
                near += 1
                if margin <= 0:
                    continue
                seen[count] = j
                count += 1
                if power == 1:
                    value += margin
                    p[j] = min(margin / delta, 1.0)
                    conjugate -= delta * p[j]
                else:
                    value += margin * margin
                    p[j] = 2 * margin
                    conjugate += p[j] * (p[j] / 4 - delta)
                rest += p[j]
            seen[count] = y
            count += 1
        if len(leeway):
            for c in range(count):
                j = seen[c]
                if power == 0:
                    leeway[i, j] = p[j] * (1 - rest)
                elif power == 1:
                    leeway[i, j] = min(p[j], 1 - p[j]) / reach
                else:
                    leeway[i, j] = min(2.0, p[j] / reach)
        p[y] = -rest
        inner = size = 0.0
        for c in range(count):
            j = seen[c]
            inner += p[j] * s[j]
            size += abs(p[j])
            by_class[y, j] += w * p[j]
            u[c] = w * p[j]
        for t in range(indptr[i], indptr[i + 1]):
            x, v = data[t], pulled[indices[t]]
            if power == 0:
                for j in range(k):
                    v[j] += x * u[j]
            else:
                for c in range(count):
                    v[seen[c]] += x * u[c]
        each[0, i], each[1, i] = value, conjugate
        each[2, i] = value + conjugate - inner
        each[3, i], each[4, i], each[5, i] = size, norm, near
