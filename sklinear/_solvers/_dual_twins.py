"""Rows that are equal but for their labels, in compiled code.

A visit to one of them undoes what a visit to the other has done, and an epoch brings
the multipliers of both no nearer to their ends than by 2 alpha / ||x||^2. How far they
may go with X' U, and so all scores, as they are, does not depend on any other row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sklinear._data import Data
from sklinear._solvers._dual_blocks import compiled

SOME = 2**20  # numbers in rows that are looked at at once
PAIRED = 4  # others that a cell trades with at a time, to each side
BLURRED = 1e-2  # of a score, that rounding of multipliers near 1 may change at most


class Twins(NamedTuple):
    """Such rows, in groups of equal rows, which have a cell for each label."""

    rows: np.ndarray  # (m,) of positive weight
    cells: np.ndarray  # (c + 1,) where the rows of each begin
    groups: np.ndarray  # (g + 1,) where the cells of each begin


def twins_of(data: Data) -> Twins | None:
    """The rows that equal one of another label; None if there are none.

    Equal rows have the same product with a random vector, by which they are sorted.
    Where others have it, too, or rounding tells such rows apart, some are missed.
    """
    keys, rows = _keys(data), np.flatnonzero(data.weights)
    rows = rows[np.lexsort((data.y[rows], keys[rows]))]
    first = np.ones(len(rows), bool)  # of a group
    first[1:] = keys[rows[1:]] != keys[rows[:-1]]
    mixed = _mixed(first, data.y[rows])
    rows, first = rows[mixed], first[mixed]  # few are left to be looked at
    first[1:] |= _differ(data, rows)
    mixed = _mixed(first, data.y[rows])
    rows, first = rows[mixed], first[mixed]
    if not len(rows):
        return None
    cell = first.copy()
    cell[1:] |= np.diff(data.y[rows]) != 0
    cells = np.append(np.flatnonzero(cell), len(rows))
    groups = np.append(np.flatnonzero(first[cells[:-1]]), len(cells) - 1)
    return Twins(rows, cells, groups)


def _mixed(first: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which rows are in groups of several labels; of each group, the first row."""
    group = np.cumsum(first) - 1
    other = (np.diff(labels, prepend=-1) != 0) & ~first
    return np.bincount(group[other], minlength=len(first))[group] > 0


def _keys(data: Data) -> np.ndarray:
    """The product of each row with a random vector (n,).

    Not by BLAS, which would round as rows happen to lie.
    """
    v = np.random.RandomState(0).standard_normal(data.shape[1])
    if data.sparse:
        n = data.shape[0]
        step = 1 + SOME * n // (data.X.nnz + n)
        return np.concatenate([data.X[i : i + step] @ v for i in range(0, n, step)])
    return np.concatenate([(block.X * v).sum(axis=1) for block in data])


def _differ(data: Data, rows: np.ndarray) -> np.ndarray:
    """Whether rows, but for the first, are other than the one before each."""
    if not len(rows):
        return np.zeros(0, bool)
    most = data.shape[1]
    if data.sparse:
        most = int((data.X.indptr[rows + 1] - data.X.indptr[rows]).max())
    step = 1 + SOME // max(most, 1)
    found = [np.zeros(0, bool)]
    for start in range(1, len(rows), step):
        part = rows[start - 1 : start + step]
        unlike = data.X[part[1:]] != data.X[part[:-1]]
        found.append(np.diff(unlike.indptr) > 0 if data.sparse else unlike.any(axis=1))
    return np.concatenate(found)


def are_clear(
    twins: Twins, weights: np.ndarray, squares: np.ndarray, coef: float
) -> bool:
    """Whether the last digits of their multipliers are nothing to their scores."""
    eps = float(np.finfo(float).eps)
    with np.errstate(over="ignore"):
        change = eps * coef * weights[twins.rows] * squares[twins.rows]
    return bool(change.max() <= BLURRED)


@compiled
def settle(
    twins: Twins,
    A: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    power: int,
    lists: Any,
    turn: int,
) -> None:
    """Move the dual variables of twins towards where the conjugates are the least.

    Along directions that leave each group's sum of score gradients as it is: of the
    softmax, whose groups have one q, at once; of the hinges for two labels at a time,
    of many labels each with some others, and other ones the next ``turn``. Rows of one
    label share what they have.
    """
    rows, cells, groups = twins
    k, most = A.shape[1], 0
    for g in range(len(groups) - 1):
        most = max(most, groups[g + 1] - groups[g])
    B, mass = np.empty((most, k)), np.empty(most)
    for g in range(len(groups) - 1):
        start, count = groups[g], groups[g + 1] - groups[g]
        for c in range(count):
            mass[c], B[c] = 0.0, 0.0
            for place in range(cells[start + c], cells[start + c + 1]):
                i = rows[place]
                mass[c] += weights[i]
                for j in range(k):
                    B[c, j] += weights[i] * A[i, j]
            for j in range(k):
                B[c, j] /= mass[c]
        if power == 0:
            _shared(B[:count], mass[:count])
        reach = (count // 2) * (power > 0)  # cells are in a ring
        for t in range(min(reach, PAIRED)):
            step = 1 + (turn * PAIRED + t) % reach
            for p in range(step if 2 * step == count else count):
                q = (p + step) % count
                own, other = y[rows[cells[start + p]]], y[rows[cells[start + q]]]
                _traded(B[p], B[q], own, other, mass[p], mass[q], power)
        for c in range(count):
            for place in range(cells[start + c], cells[start + c + 1]):
                i = rows[place]
                A[i] = B[c]
                lists.counts[i] = -1


@compiled
def _shared(B: np.ndarray, mass: np.ndarray) -> None:
    """The mean, in each row of B."""
    count, k = B.shape
    whole = 0.0
    for c in range(count):
        whole += mass[c]
    for j in range(k):
        mean = 0.0
        for c in range(count):
            mean += mass[c] * B[c, j]
        B[:, j] = mean / whole


@compiled
def _traded(
    a: np.ndarray,
    b: np.ndarray,
    own: int,
    other: int,
    m: float,
    n: float,
    power: int,
) -> None:
    """Two rows' multipliers, of labels ``own`` and ``other`` and weights m and n.

    What is added to both a_other and b_own leaves the sum of the score gradients
    as it is; so does what is added to a_other and b_j and taken from a_j.
    """
    up, down = a[other], b[own]
    if power == 1:
        t = min(m * (1 - up), n * (1 - down))
    else:
        t = max((4 - up - down) / (1 / m + 1 / n), -min(m * up, n * down))
    a[other], b[own] = _inside(up + t / m, power), _inside(down + t / n, power)
    for j in range(len(a)):
        if j != own and j != other:
            _detoured(a, b, other, j, m, n, power)
            _detoured(b, a, own, j, n, m, power)


@compiled
def _detoured(
    a: np.ndarray, b: np.ndarray, over: int, j: int, m: float, n: float, power: int
) -> None:
    """The second kind of moves, of a_over, b_j and a_j."""
    up, far, near = a[over], b[j], a[j]
    if power == 1:
        t = min(m * (1 - up), n * (1 - far), m * near)
    else:
        t = (2 - up - far + near) / (2 / m + 1 / n)
        t = min(max(t, -min(m * up, n * far)), m * near)
    if t != 0:
        a[over], b[j] = _inside(up + t / m, power), _inside(far + t / n, power)
        a[j] = _inside(near - t / m, power)


@compiled
def _inside(a: float, power: int) -> float:
    """A multiplier within its bounds, which rounding may have passed."""
    return max(min(a, 1.0), 0.0) if power == 1 else max(a, 0.0)
