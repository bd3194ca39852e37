"""The hinges' Hessian from their active margins, and steps in the space of these.

The Hessian is 2 alpha I and a rank one for each margin with curvature: its blocks come
of a product for each pair of classes; and where such margins are fewer than params,
what is solved is the dual system (Woodbury 1950) of a number a margin, bordered by the
intercept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from sklinear._losses import Margin
from sklinear._objective import Objective, features
from sklinear._solvers._curvature import Arrays
from sklinear._solvers._steps import Iterate

LARGEST = 2000  # active margins: their system takes 32 MB
SHARE = 0.7  # of the params: with more margins the system is nearly singular
GATHER = 40  # operations that it takes to write a number of the system
INEXACT = 1e-2  # part that rounding may make of what a step does to the margins
CHUNK = 2**20  # numbers in the features that are copied at a time


class Active(NamedTuple):
    """The margins with curvature, (a,) each."""

    rows: np.ndarray
    y: np.ndarray  # the rows' classes
    classes: np.ndarray  # the margins'
    slopes: np.ndarray  # second derivatives, weighted


def active_margins(objective: Objective, scores: Arrays) -> Active:
    """Those at the scores."""
    rows, classes, slopes = [], [], []
    for block, s in zip(objective.data, scores, strict=True):
        loss = objective.loss.rows(block.rows)
        assert isinstance(loss, Margin)
        slope = loss.slope(s, block.y)
        slope *= block.weights[:, None]
        flat = slope.T.ravel()
        places = np.flatnonzero(flat != 0)  # of what is true or not a sixth of the time
        j, i = np.divmod(places, len(slope))
        rows.append(i + block.rows.start)
        classes.append(j)
        slopes.append(flat[places])
    row = np.concatenate(rows)
    y = objective.data.y[row]
    return Active(row, y, np.concatenate(classes), np.concatenate(slopes))


def active_hessian(objective: Objective, active: Active) -> np.ndarray:
    """The pairs j < m of the loss's Hessian (k, d1, k, d1).

    The rows of a class are gone through together, so many at a time as fit into
    ``CHUNK``, and of these the ones with an active margin of each other class.
    """
    (d1, k), data = objective.shape, objective.data
    H = np.zeros((k, d1, k, d1))
    group, place = np.zeros(len(data.y), np.intp), np.zeros(len(data.y), np.intp)
    group[active.rows] = 1
    rows = np.flatnonzero(group)
    rows = rows[np.argsort(data.y[rows], kind="stable")]
    parts = [
        part[start : start + max(CHUNK // d1, 1)]
        for part in np.split(rows, np.flatnonzero(np.diff(data.y[rows])) + 1)
        for start in range(0, len(part), max(CHUNK // d1, 1))
    ]
    for g, part in enumerate(parts):
        group[part], place[part] = g, np.arange(len(part))
    key = group[active.rows] * k + active.classes
    order = np.argsort(key.astype(np.min_scalar_type(len(parts) * k)), kind="stable")
    ends = np.searchsorted(key[order], np.arange(len(parts) * k + 1))
    places, roots = place[active.rows[order]], np.sqrt(active.slopes[order])
    for g, part in enumerate(parts):
        y = data.y[part[0]]
        X = data.take(part)
        Z = features(X, objective.variables, objective.fit_intercept)
        own = ends[g * k : (g + 1) * k + 1]
        if own[-1] - own[0] > Z.shape[0] * k / 2 and Z.size * k <= CHUNK:
            mine = slice(own[0], own[-1])
            bent = np.zeros((k, *Z.shape), Z.dtype)
            at = key[order[mine]] - g * k, places[mine]
            bent[at] = roots[mine, None] ** 2 * Z[places[mine]]
            pairs = np.tensordot(Z, bent, (0, 1))  # (d1, k, d1)
            H[y, :, y + 1 :] -= pairs[:, y + 1 :]
            H[:y, :, y] -= pairs[:, :y].swapaxes(0, 1)
            continue
        for j in np.flatnonzero(np.diff(own)):
            mine = slice(own[j], own[j + 1])
            some = Z[places[mine]]
            some *= roots[mine].astype(Z.dtype)[:, None]
            H[min(j, y), :, max(j, y)] -= some.T @ some
    return H


def written_cost(objective: Objective, count: float) -> float:
    """Operations of a step with so many margins' Hessian written out."""
    d1, k = objective.shape
    return 3.0 * count * d1**2 + (d1 * (k - 1)) ** 3 / 3


def active_cost(objective: Objective, count: int) -> float:
    """Operations of a step in the space of so many margins, inf if it is inexact."""
    d1, k = objective.shape
    if objective.alpha == 0 or not 0 < count <= min(LARGEST, SHARE * d1 * (k - 1)):
        return np.inf
    return count**3 / 3 + count**2 * (GATHER + 2 * d1)


def active_step(
    objective: Objective, state: Iterate, active: Active, ridge: float
) -> np.ndarray | None:
    """Newton's step in the space of the margins, or None if rounding forbids it.

    ``ridge`` damps the intercept. O(a^3 + a^2 (d + k)) time for a margins.
    """
    k, data = objective.data.n_classes, objective.data
    rows, i = np.unique(active.rows, return_inverse=True)
    j, y, count = active.classes, active.y, len(i)
    pairs = np.zeros((count, k))  # e_j - e_y of each margin
    pairs[np.arange(count), j] = 1
    pairs[np.arange(count), y] = -1
    gradient, penalty = state.at.slack, 2 * objective.alpha
    X, mean = data.take(rows), objective.variables.mean
    if data.sparse:
        shift = X @ mean
        products = (X @ X.T).toarray() - shift - shift[:, None] + mean @ mean
        tilt = X @ gradient - mean @ gradient
    else:
        X = X - mean.astype(data.dtype)
        products, tilt = (X @ X.T).astype(np.float64, copy=False), X @ gradient
    system = products[np.ix_(i, i)]
    system *= pairs @ pairs.T
    system /= penalty
    system.flat[:: count + 1] += 1 / active.slopes
    target = -(tilt[i, j] - tilt[i, y]) / penalty
    try:  # its transpose lies in memory as LAPACK wants it
        factor = scipy.linalg.cho_factor(
            system.T, lower=True, overwrite_a=True, check_finite=False
        )
    except np.linalg.LinAlgError:  # features of too different scales
        return None
    intercept = np.zeros(k)
    if objective.fit_intercept:
        solved = scipy.linalg.cho_solve(factor, np.column_stack([target, pairs]))
        border = pairs.T @ solved
        S = border[:, 1:]
        S += np.trace(S) / k**2  # a constant added to all scores is free
        S.flat[:: k + 1] += ridge
        try:
            intercept = np.linalg.solve(S, -state.at.residual - border[:, 0])
        except np.linalg.LinAlgError:  # as above
            return None
        intercept -= intercept.mean()
        multipliers = solved[:, 0] + solved[:, 1:] @ intercept
    else:
        multipliers = scipy.linalg.cho_solve(factor, target)
    T = np.zeros((len(rows), k))
    np.add.at(T, (i, j), multipliers)
    np.add.at(T, (i, y), -multipliers)
    pulled = X.T @ T
    if data.sparse:
        pulled -= np.outer(mean, T.sum(axis=0))
    W = -(gradient + pulled) / penalty
    if X.dtype == np.float64:  # what float32 spoils, float64 mends
        scores = X @ W - mean @ W if data.sparse else X @ W
        change = scores[i, j] - scores[i, y] + intercept[j] - intercept[y]
        told = multipliers / active.slopes
        if not np.abs(change - told).max() <= INEXACT * np.abs(told).max():
            return None  # features of too different scales, again
    V = objective.variables.inverse(W - W.mean(axis=1)[:, None])
    return np.vstack([V, intercept]) if objective.fit_intercept else V
